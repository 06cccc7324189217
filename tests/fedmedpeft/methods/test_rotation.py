from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.exchange import ContractError, Manifest, TensorSpec
from fedmedpeft.methods.rotation import Rotation


def rotation(groups: int = 12, count: int = 1, **options: object) -> Rotation:
    keys = {f"blocks.{i}": frozenset({f"blocks.{i}.q.weight", f"blocks.{i}.q.bias"}) for i in range(groups)}
    return Rotation(keys, count, **options)  # type: ignore[arg-type]


def manifest(groups: int) -> Manifest:
    """Block i has i + 1 weights and one bias; a LayerNorm and a head take no turns."""
    specs = [TensorSpec("norm.weight", (2,), "method"), TensorSpec("head.bias", (3,), "head")]
    for i in range(groups):
        specs += [
            TensorSpec(f"blocks.{i}.q.weight", (i + 1,), "method"),
            TensorSpec(f"blocks.{i}.q.bias", (), "method"),
        ]
    return Manifest.of(specs)


@given(
    st.integers(1, 24),
    st.data(),
    st.sampled_from(["uniform", "cyclic"]),
    st.booleans(),
    st.integers(0, 9),
    st.integers(1, 999),
)
def test_a_draw_is_so_many_groups_in_order_and_always_the_same(
    groups: int, data: st.DataObject, order: str, per_site: bool, seed: int, round_: int
) -> None:
    count = data.draw(st.integers(1, groups))
    drawn = rotation(groups, count, order=order, per_site=per_site).draw(seed, round_, "st-mary")
    numbers = [int(name.removeprefix("blocks.")) for name in drawn]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == count
    assert numbers[-1] < groups
    assert drawn == rotation(groups, count, order=order, per_site=per_site).draw(seed, round_, "st-mary")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("site", ["", "st-mary"])
def test_all_groups_are_drawn_alike(count: int, site: str) -> None:
    rounds, groups = 3000, 12
    turns = rotation(groups, count, per_site=bool(site))
    drawn = Counter(group for round_ in range(1, rounds + 1) for group in turns.draw(0, round_, site))
    share = count / groups
    tolerance = 4 * math.sqrt(rounds * share * (1 - share))
    assert len(drawn) == groups
    assert all(abs(times - rounds * share) < tolerance for times in drawn.values())


@given(st.integers(1, 15), st.data(), st.integers(1, 50), st.booleans())
def test_cyclic_comes_round_to_all(groups: int, data: st.DataObject, first: int, per_site: bool) -> None:
    count = data.draw(st.integers(1, groups))
    turns = rotation(groups, count, order="cyclic", per_site=per_site)
    draws = [turns.draw(0, round_, "a") for round_ in range(first, first + groups)]
    assert {group for draw in draws[: math.ceil(groups / count)] for group in draw} == set(turns.groups)
    assert set(Counter(group for draw in draws for group in draw).values()) == {count}


def test_cyclic_begins_at_the_first_block() -> None:
    draws = [rotation(3, 2, order="cyclic").draw(7, round_, "a") for round_ in (1, 2)]
    assert draws == [("blocks.0", "blocks.1"), ("blocks.0", "blocks.2")]


@pytest.mark.parametrize("order", ["uniform", "cyclic"])
def test_sites_draw_alike_unless_each_draws_on_its_own(order: str) -> None:
    def draws(site: str, *, per_site: bool) -> list[tuple[str, ...]]:
        return [rotation(order=order, per_site=per_site).draw(0, round_, site) for round_ in range(1, 9)]

    assert draws("a", per_site=False) == draws("b", per_site=False) == draws("", per_site=False)
    assert draws("a", per_site=True) != draws("b", per_site=True)


def test_the_seed_decides_and_draws_are_the_same_on_every_machine() -> None:
    def draws(seed: int) -> list[tuple[str, ...]]:
        return [rotation().draw(seed, round_) for round_ in range(1, 6)]

    assert draws(0) != draws(1)
    assert [int(group.removeprefix("blocks.")) for (group,) in draws(0)] == [7, 11, 3, 0, 11]


def test_a_part_is_what_is_named_and_all_that_takes_no_turns() -> None:
    part = rotation(3).part(manifest(3), ["blocks.1"])
    assert [spec.name for spec in part.tensors] == ["blocks.1.q.bias", "blocks.1.q.weight", "norm.weight", "head.bias"]
    assert rotation(3).part(manifest(3), ["blocks.0", "blocks.1", "blocks.2"]) == manifest(3)
    assert rotation(3, 2).largest_part(manifest(3)).numel() == (2 + 1) + (3 + 1) + 2 + 3


def test_what_others_train_too_takes_no_turns() -> None:
    fixed = rotation(2).without(["blocks.0.q.bias"])
    assert fixed.resting([]) == {"blocks.0.q.weight", "blocks.1.q.weight", "blocks.1.q.bias"}


def test_without_groups_everything_is_in_every_part() -> None:
    none = Rotation()
    assert not none
    assert none.part(manifest(2), none.read("")) == none.largest_part(manifest(2)) == manifest(2)


@given(st.sets(st.integers(0, 4)))
def test_groups_survive_a_message(chosen: set[int]) -> None:
    groups = tuple(f"blocks.{i}" for i in sorted(chosen))
    assert rotation(5).read(rotation(5).write(groups)) == groups


@pytest.mark.parametrize("text", ["blocks.5", "blocks.1,blocks.1", "blocks.1,", ",", "head", "blocks.1, blocks.2"])
def test_groups_that_no_run_can_name_are_refused(text: str) -> None:
    with pytest.raises(ContractError):
        rotation(5).read(text)
    with pytest.raises(ContractError):
        Rotation().read(text)
