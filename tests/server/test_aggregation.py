"""Every strategy against a dense computation in numpy, written from the papers' formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.exchange import Contract, ContractError, Manifest, PeftState, TensorSpec
from fedmedpeft.privacy.client_level import client_level
from fedmedpeft.privacy.randomness import SeededRandomness
from server.aggregation import Aggregator, Update, weight_of
from server.client_privacy import ClientPrivacy
from server.strategies import build_strategy

MANIFEST = Manifest.of([TensorSpec("blocks.0.q.a", (3, 4), "method"), TensorSpec("head.bias", (5,), "head")])
CONTRACT = Contract(MANIFEST, max_norm=1e4)
SAMPLES = (10, 20, 30, 70, 5)
Dense = np.ndarray


@pytest.fixture(autouse=True)
def _flower_runtime() -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def dense(state: PeftState) -> Dense:
    return np.concatenate([state.vectors["method"], state.vectors["head"]]).astype(np.float64)


def state_from(values: Dense) -> PeftState:
    values = values.astype(np.float32)
    return PeftState(MANIFEST, {"method": values[:12], "head": values[12:]})


def trained(state: PeftState, round_: int, samples: tuple[int, ...] = SAMPLES) -> list[Update]:
    """Each site moves from ``state`` by its own random step."""
    rng = np.random.default_rng(round_)
    moved = [state_from(dense(state) + 0.1 * rng.standard_normal(17)) for _ in samples]
    return [Update(f"site-{i}", s, n) for i, (s, n) in enumerate(zip(moved, samples, strict=True))]


def aggregator(spec: str, weighting: str = "samples") -> Aggregator:
    return Aggregator(build_strategy(spec), CONTRACT, weighting)  # type: ignore[arg-type]


def weighted(updates: list[Update], weights: list[float]) -> Dense:
    return np.average([dense(u.state) for u in updates], axis=0, weights=weights)


@pytest.mark.parametrize(
    ("weighting", "weight"), [("samples", float), ("sqrt", np.sqrt), ("uniform", lambda samples: 1.0)]
)
def test_fedavg_is_the_weighted_mean(weighting: str, weight: Callable[[int], float]) -> None:
    start = state_from(np.random.default_rng(0).standard_normal(17))
    updates = trained(start, 1)
    result = aggregator("fedavg", weighting).aggregate(1, start, updates)
    expected = weighted(updates, [weight(n) for n in SAMPLES])
    np.testing.assert_allclose(dense(result), expected, rtol=0, atol=2e-7)
    assert all(vector.dtype == np.float32 for vector in result.vectors.values())


class Oracle:
    """Server optimisers of Reddi et al., ICLR 2021 (algorithm 2) and Hsu et al., 2019, over dense vectors."""

    def __init__(self) -> None:
        self.m = np.zeros(17)
        self.v = np.zeros(17)

    def fedprox(self, round_: int, x: Dense, delta: Dense) -> Dense:
        return x + delta

    def fedavgm(self, round_: int, x: Dense, delta: Dense) -> Dense:
        self.m = 0.8 * self.m + delta
        return x + 0.5 * self.m

    def _adaptive(self, x: Dense, delta: Dense, step: float) -> Dense:
        self.m = 0.9 * self.m + 0.1 * delta
        return x + step * self.m / (np.sqrt(self.v) + 1e-3)

    def fedadam(self, round_: int, x: Dense, delta: Dense) -> Dense:
        self.v = 0.99 * self.v + 0.01 * delta**2
        # Flower corrects the bias of both moments in the step size, counting its rounds from 0.
        step = 0.05 * np.sqrt(1 - 0.99 ** (round_ + 1)) / (1 - 0.9 ** (round_ + 1))
        return self._adaptive(x, delta, step)

    def fedyogi(self, round_: int, x: Dense, delta: Dense) -> Dense:
        self.v = self.v - 0.01 * delta**2 * np.sign(self.v - delta**2)
        return self._adaptive(x, delta, 0.05)

    def fedadagrad(self, round_: int, x: Dense, delta: Dense) -> Dense:
        self.v = self.v + delta**2
        return x + 0.05 * delta / (np.sqrt(self.v) + 1e-3)


@pytest.mark.parametrize(
    "spec",
    ["fedprox(mu=0.1)", "fedavgm(lr=0.5, momentum=0.8)", "fedadam(lr=0.05)", "fedyogi(lr=0.05)", "fedadagrad(lr=0.05)"],
)
def test_optimisers_over_rounds(spec: str) -> None:
    state, ours, oracle = state_from(np.random.default_rng(0).standard_normal(17)), aggregator(spec), Oracle()
    expected = dense(state)
    for round_ in range(1, 5):
        updates = trained(state, round_)
        delta = weighted(updates, [float(n) for n in SAMPLES]) - dense(state)
        expected = getattr(oracle, spec.partition("(")[0])(round_, expected, delta)
        state = ours.aggregate(round_, state, updates)
        np.testing.assert_allclose(dense(state), expected, rtol=0, atol=2e-5)


def test_median_and_trimmed_mean() -> None:
    start = state_from(np.zeros(17))
    updates = trained(start, 1)
    values = np.sort([dense(u.state) for u in updates], axis=0)
    np.testing.assert_allclose(dense(aggregator("median").aggregate(1, start, updates)), values[2], atol=1e-7)
    trimmed = dense(aggregator("trimmed-mean(beta=0.2)").aggregate(1, start, updates))
    np.testing.assert_allclose(trimmed, values[1:4].mean(axis=0), atol=1e-7)


def test_krum_picks_the_site_nearest_to_its_neighbours_even_far_from_zero() -> None:
    start = state_from(np.full(17, 1000.0))
    updates = trained(start, 3)
    hostile = Update("site-9", state_from(dense(start) + 50), 10_000)
    everyone = [*updates, hostile]
    distances = np.array([[((dense(a.state) - dense(b.state)) ** 2).sum() for b in everyone] for a in everyone])
    # n - f - 2 = 3 nearest neighbours; a site's distance to itself comes first.
    nearest = everyone[int(np.sort(distances, axis=1)[:, 1:4].sum(axis=1).argmin())]
    result = aggregator("krum(malicious=1)").aggregate(1, start, everyone)
    np.testing.assert_allclose(dense(result), dense(nearest.state), atol=1e-4)
    assert nearest is not hostile


@pytest.mark.parametrize("spec", ["fedavg", "fedadam", "median", "trimmed-mean", "krum"])
def test_the_order_of_arrival_changes_nothing(spec: str) -> None:
    start = state_from(np.zeros(17))
    updates = trained(start, 1)
    forwards = aggregator(spec).aggregate(1, start, updates)
    assert forwards.hash() == aggregator(spec).aggregate(1, start, updates[::-1]).hash()


@pytest.mark.parametrize("spec", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_a_refused_aggregate_leaves_no_trace_in_the_optimiser(spec: str) -> None:
    tried, fresh = aggregator(f"{spec}(lr=10)"), aggregator(f"{spec}(lr=10)")
    edge = state_from(np.full(17, (CONTRACT.max_norm - 0.1) / np.sqrt(17)))
    with pytest.raises(ContractError, match="ceiling"):
        tried.aggregate(1, edge, [Update("site-0", state_from(dense(edge) + 1), 1)])
    start = state_from(np.zeros(17))
    updates = trained(start, 1)
    assert tried.aggregate(1, start, updates).hash() == fresh.aggregate(1, start, updates).hash()


def test_the_inputs_are_not_changed() -> None:
    start = state_from(np.zeros(17))
    updates = trained(start, 1)
    before = [start.hash(), *(u.state.hash() for u in updates)]
    for spec in ("fedavg", "median", "fedadam"):
        aggregator(spec).aggregate(1, start, updates)
    assert [start.hash(), *(u.state.hash() for u in updates)] == before


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.sampled_from(["samples", "sqrt", "uniform"]))
def test_the_mean_lies_between_the_sites(samples: list[int], weighting: str) -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    start = state_from(np.zeros(17))
    updates = trained(start, 1, tuple(samples))
    result = dense(aggregator("fedavg", weighting).aggregate(1, start, updates))
    values = np.array([dense(u.state) for u in updates])
    assert (result >= values.min(axis=0) - 1e-6).all()
    assert (result <= values.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("spec", ["fedavg", "fedprox", "median", "trimmed-mean(beta=0.2)", "krum(malicious=1)"])
def test_parts_give_the_bits_of_whole_states_whose_rest_nobody_moved(spec: str) -> None:
    """As in a round in which all sites train the same part."""
    start = state_from(np.random.default_rng(0).standard_normal(17))
    updates = trained(start, 1)
    part = MANIFEST.only({"head.bias"})
    parts = [Update(u.site, u.state.only(part), u.samples) for u in updates]
    wholes = [Update(u.site, start.updated(u.state.only(part)), u.samples) for u in updates]
    ours = aggregator(spec).aggregate(1, start, parts)
    assert ours.hash() == aggregator(spec).aggregate(1, start, wholes).hash()
    assert np.array_equal(ours.vectors["method"], start.vectors["method"])


def test_a_tensor_is_averaged_over_the_sites_that_sent_it() -> None:
    start = state_from(np.random.default_rng(0).standard_normal(17))
    updates = trained(start, 1)
    whole, part = updates[:2], MANIFEST.only({"head.bias"})
    mixed = [*whole, *(Update(u.site, u.state.only(part), u.samples) for u in updates[2:])]
    result = dense(aggregator("fedavg").aggregate(1, start, mixed))
    np.testing.assert_allclose(result[:12], weighted(whole, [10.0, 20.0])[:12], atol=2e-7)
    np.testing.assert_allclose(result[12:], weighted(updates, [float(n) for n in SAMPLES])[12:], atol=2e-7)


def test_weights_of_a_site() -> None:
    assert [weight_of(100, w) for w in ("samples", "sqrt", "uniform")] == [100.0, 10.0, 1.0]  # type: ignore[arg-type]


def private(spec: str) -> ClientPrivacy:
    level = client_level(spec)
    assert level is not None
    return ClientPrivacy(level, SeededRandomness(0))


@pytest.mark.parametrize("spec", ["fedavg", "fedprox(mu=0.1)", "fedavgm(lr=0.5, momentum=0.8)", "fedadam(lr=0.05)"])
def test_with_privacy_of_sites_the_optimiser_sees_their_noised_mean_alone(spec: str) -> None:
    state = expected = state_from(np.random.default_rng(0).standard_normal(17))
    mean, plain = private("fixed(clip=0.2, noise=0.5)"), aggregator(spec, "uniform")
    ours = Aggregator(build_strategy(spec), CONTRACT, "uniform", private("fixed(clip=0.2, noise=0.5)"))
    for round_ in range(1, 4):
        updates = trained(state, round_)
        noised = mean.mean(round_, state, {u.site: u.state for u in updates}, {u.site: None for u in updates})
        expected = plain.aggregate(round_, state, [Update("one", noised, 1)])
        state = ours.aggregate(round_, state, updates)
        assert state.hash() == expected.hash()


def test_with_privacy_of_sites_a_part_moves_and_the_rest_stays() -> None:
    start = state_from(np.random.default_rng(0).standard_normal(17))
    part = MANIFEST.only({"head.bias"})
    parts = [Update(u.site, u.state.only(part), u.samples) for u in trained(start, 1)]
    result = Aggregator(build_strategy("fedavg"), CONTRACT, "uniform", private("fixed")).aggregate(1, start, parts)
    assert np.array_equal(result.vectors["method"], start.vectors["method"])
    assert (result.vectors["head"] != start.vectors["head"]).all()


def test_with_privacy_of_sites_a_refused_aggregate_stays_paid() -> None:
    edge = state_from(np.full(17, (CONTRACT.max_norm - 0.1) / np.sqrt(17)))
    spender = private("fixed(clip=1000.0, noise=100.0)")
    ours = Aggregator(build_strategy("fedavg"), CONTRACT, "uniform", spender)
    with pytest.raises(ContractError, match="ceiling"):
        ours.aggregate(1, edge, trained(edge, 1))
    assert {site["rounds"] for site in spender.summary()["sites"].values()} == {1}


def test_an_adaptive_clip_is_told_what_the_sites_said() -> None:
    start = state_from(np.zeros(17))
    clips = []
    for said in (True, False):
        spender = private("adaptive(clip_at='site')")
        updates = [Update(u.site, u.state, u.samples, within=said) for u in trained(start, 1)]
        Aggregator(build_strategy("fedavg"), CONTRACT, "uniform", spender).aggregate(1, start, updates)
        clips.append(spender.clip)
    assert clips[1] / clips[0] == pytest.approx(np.exp(0.2))
