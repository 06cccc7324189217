"""What one unit may add to a sum, and who is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.privacy.units import Units
from fedmedpeft.training.per_unit import PoissonSampler, UnitGradients, _physical_batches, clipped_sum

_SHAPES = [(3, 4), (5,), (2, 2, 2)]


def _gradients(units: int, seed: int, scale: float, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Of very different sizes from unit to unit."""
    generator = torch.Generator().manual_seed(seed)
    sizes = scale * torch.exp(3 * torch.randn(units, generator=generator))
    return [
        (torch.randn(units, *shape, generator=generator) * sizes.view(-1, *[1] * len(shape))).to(dtype)
        for shape in _SHAPES
    ]


def _norm(tensors: list[torch.Tensor]) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors]).double().norm())


@settings(deadline=None, max_examples=60)
@given(
    units=st.integers(1, 12),
    out=st.integers(0, 11),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e6, 1e18]),
    clip=st.floats(1e-4, 1e4),
)
def test_one_unit_more_or_less_changes_the_sum_by_at_most_the_clip(
    units: int, out: int, seed: int, scale: float, clip: float
) -> None:
    gradients = _gradients(units, seed, scale)
    rest = [torch.cat([each[: out % units], each[out % units + 1 :]]) for each in gradients]
    whole, without = clipped_sum([each.clone() for each in gradients], clip), clipped_sum(rest, clip)
    # Beside the clip only what float32 rounds of a sum of so many.
    apart = _norm([one - other for one, other in zip(whole, without, strict=True)])
    assert apart <= clip * (1 + units * 1e-6)


def test_small_gradients_are_left_and_large_ones_keep_their_direction() -> None:
    small, large = torch.tensor([[0.3, 0.4]]), torch.tensor([[30.0, 40.0]])
    assert torch.allclose(clipped_sum([small], 1.0)[0], torch.tensor([0.3, 0.4]))
    assert torch.allclose(clipped_sum([large], 1.0)[0], torch.tensor([0.6, 0.8]))
    # One norm over all parameters, not one for each.
    assert torch.allclose(
        torch.stack(clipped_sum([large[:, :1], large[:, 1:]], 1.0)).flatten(), torch.tensor([0.6, 0.8])
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_a_unit_whose_gradient_is_not_finite_adds_nothing(value: float) -> None:
    """3e38 is finite, its square is not."""
    gradients = _gradients(4, 0, 1.0)
    others = clipped_sum([each[[0, 1, 3]] for each in gradients], 1.0)
    gradients[1][2] = value
    for found, expected in zip(clipped_sum(gradients, 1.0), others, strict=True):
        assert torch.allclose(found, expected)


def test_no_gradient_at_all() -> None:
    assert not clipped_sum([torch.zeros(3, 2)], 1.0)[0].any()


def test_norms_of_many_coordinates_are_exact() -> None:
    """Squares added up one by one in float32 come out wrong by more than a thousandth here."""
    gradient = torch.full((2, 3_000_000), 1e-3)
    found = clipped_sum([gradient], 1.0)[0].double().norm()
    assert abs(float(found) / 2 - 1) < 1e-5


def _units() -> Units:
    of_row = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 2, 2] + [3] * 30 + list(range(4, 40)))
    return Units("patient", of_row[torch.randperm(len(of_row), generator=torch.Generator().manual_seed(0))], 40)


def test_each_unit_is_drawn_on_its_own_with_the_rate() -> None:
    units, draws, rate = _units(), 2000, 0.3
    sampler = PoissonSampler(units, rate, 100, SeededRandomness(1))
    present = torch.zeros(draws, units.count)
    for step in range(draws):
        for rows in sampler.draw():
            (unit,) = set(units.of_row[rows].tolist())
            assert len(rows) == len(set(rows.tolist())) == int((units.of_row == unit).sum())
            present[step, unit] += 1
    assert present.max() == 1
    error = math.sqrt(rate * (1 - rate) / draws)
    assert (present.mean(0) - rate).abs().max() < 5 * error
    counts = present.sum(1)
    assert abs(float(counts.mean()) - rate * units.count) < 5 * error * math.sqrt(units.count)
    assert float(counts.var()) == pytest.approx(units.count * rate * (1 - rate), rel=0.2)


def test_no_unit_gives_more_rows_than_it_may_and_all_have_their_turn() -> None:
    units = _units()
    sampler = PoissonSampler(units, 1.0, 4, SeededRandomness(2))
    seen: dict[int, int] = {}
    for _ in range(300):
        drawn = sampler.draw()
        assert [len(rows) for rows in drawn[:4]] == [1, 2, 4, 4]
        assert all(len(set(rows.tolist())) == len(rows) for rows in drawn)
        for row in torch.cat(drawn).tolist():
            seen[row] = seen.get(row, 0) + 1
    assert len(seen) == len(units.of_row)
    of_largest = [count for row, count in seen.items() if units.of_row[row] == 3]
    assert min(of_largest) > 15
    assert max(of_largest) < 75


def test_units_are_not_torn_where_they_fit() -> None:
    units = [torch.zeros(size, dtype=torch.int64) for size in (2, 2, 1, 5, 3, 2, 4)]
    batches = [[len(rows) for rows in batch] for batch in _physical_batches(units, 4)]
    assert batches == [[2, 2], [1], [5], [3], [2], [4]]
    assert list(_physical_batches([], 4)) == []


@pytest.mark.parametrize("physical_batch", [2, 3, 64])
def test_a_record_that_is_not_finite_costs_its_own_unit_alone(physical_batch: int) -> None:
    """Else a patient with one such image could take all others out of the sum: more than the clip."""
    weight = torch.nn.Parameter(torch.zeros(2))
    gradients = torch.tensor([[0.3, 0.0], [0.1, 0.0], [math.inf, 0.0], [0.0, 0.2], [0.0, 0.4]])
    chosen: list[torch.Tensor] = []

    def loss(rows: torch.Tensor) -> torch.Tensor:
        chosen.append(rows)
        return weight.sum()

    summed = UnitGradients(loss, lambda _: {"w": gradients[chosen[-1]]}, {"w": weight}, 1.0, physical_batch)
    (found,) = summed.sum([torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3, 4])])
    assert torch.allclose(found, torch.tensor([0.2, 0.3]))
