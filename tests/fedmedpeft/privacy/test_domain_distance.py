from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.domain_distance import FEWEST, chance_distance, distance, make_reference
from fedmedpeft.privacy.domain_reference import FeatureReference

_MARK = "0" * 64
_WIDTH = 40
Draw = Callable[[int], torch.Tensor]


def _normal(seed: int) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda count: 3 + 2 * torch.randn(count, _WIDTH, generator=generator)


def _heavy(seed: int) -> Draw:
    """Laplace: tails that make a standard deviation vary more than a normal one's does."""
    generator = np.random.default_rng(seed)
    return lambda count: torch.from_numpy(generator.laplace(size=(count, _WIDTH)))


def _made(features: torch.Tensor, threshold: float = 1.0) -> FeatureReference:
    groups = torch.arange(len(features))
    return make_reference(features, groups, fingerprint=_MARK, source="a test", threshold=threshold)


def _exact(mean: float, std: float, samples: int = 10**9) -> FeatureReference:
    return FeatureReference(torch.full((_WIDTH,), mean), torch.full((_WIDTH,), std), samples, _MARK, "a test", 1.0)


def _mean_square(features: torch.Tensor, reference: FeatureReference) -> float:
    """Without what chance is expected to add."""
    shift, spread = features.mean(0) - reference.mean, features.std(0) - reference.std
    return float(((shift.square() + spread.square()) / reference.std.square()).mean())


def test_the_published_formula() -> None:
    """Against so many images that chance adds nothing: a shift of 1.5 and a spread of 3 where it is 2."""
    draw = _normal(0)
    features = draw(4000)
    features = (features - features.mean(0)) / features.std(0)
    expected = (1.5**2 + (3 - 2) ** 2) ** 0.5 / 2
    assert distance(features * 3 + 4.5, _exact(3.0, 2.0)) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("count", "samples"), [(50, 0), (50, 200), (200, 100)])
@pytest.mark.parametrize(("make", "left"), [(_normal, 0.03), (_heavy, 0.3)])
def test_what_chance_adds_is_taken_off(make: Callable[[int], Draw], left: float, count: int, samples: int) -> None:
    """Of one and the same source the square is 0 on average, whatever the sizes; less exactly so with heavy tails."""
    draw = make(1)
    exact = _made(draw(20_000))
    corrected, plain = [], []
    for _ in range(150):
        reference, features = _made(draw(samples)) if samples else exact, draw(count)
        corrected.append(_signed_square(features, reference))
        plain.append(_mean_square(features, reference))
    assert np.mean(plain) > 1.4 * (1 / count + 1 / (samples or 20_000))
    assert abs(np.mean(corrected)) < left * np.mean(plain) + 3 * np.std(corrected) / len(corrected) ** 0.5


def _signed_square(features: torch.Tensor, reference: FeatureReference) -> float:
    """The square below 0 too: a constant shift in one more dimension lifts it above, and is taken off again."""
    far, width = 10.0, _WIDTH + 1
    mean, std = (
        torch.cat([part, torch.tensor([value])]) for part, value in ((reference.mean, 0.0), (reference.std, 1.0))
    )
    lifted = FeatureReference(mean, std, reference.samples, _MARK, "a test", 1.0)
    constant = torch.full((len(features), 1), far, dtype=features.dtype)
    known = far**2 + 1 - 1.5 / reference.samples
    return (width * distance(torch.cat([features, constant], 1), lifted) ** 2 - known) / _WIDTH


def test_the_order_of_images_and_their_type_make_no_difference() -> None:
    draw = _normal(2)
    reference, features = _made(draw(300)), draw(60) + 0.5
    shuffled = features[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    assert distance(shuffled, reference) == pytest.approx(distance(features, reference), rel=1e-9)
    assert distance(features.double(), reference) == pytest.approx(distance(features, reference), rel=1e-9)


def test_it_grows_with_the_shift_and_is_never_below_zero() -> None:
    draw = _normal(3)
    reference, features = _made(draw(1000)), draw(100)
    found = [distance(features + shift, reference) for shift in (0.0, 1.0, 2.0, 20.0)]
    assert found == sorted(found)
    assert found[3] == pytest.approx(10, rel=0.05)
    itself = draw(200)
    assert distance(itself, _made(itself)) == 0.0


@pytest.mark.parametrize("constant", [1, _WIDTH])
def test_a_dimension_that_never_varied_is_finite_and_does_not_decide_by_rounding(constant: int) -> None:
    draw = _normal(4)
    own, features = draw(300), draw(100)
    own[:, :constant] = features[:, :constant] = 0.1
    reference = _made(own)
    assert distance(features, reference) < 0.1
    other = features.clone()
    other[:, 0] = 5.0
    assert 10 < distance(other, reference) < float("inf")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(1, _WIDTH), "shape .1, 40., expected .N, 40."),
        (torch.zeros(5, _WIDTH + 1), "shape .5, 41."),
        (torch.full((5, _WIDTH), float("nan")), "not finite"),
    ],
)
def test_features_that_cannot_be_compared(features: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distance(features, _exact(0.0, 1.0))


@pytest.mark.parametrize("make", [_normal, _heavy])
def test_the_threshold_is_passed_once_in_a_hundred_by_the_fewest_images_and_never_by_many(
    make: Callable[[int], Draw],
) -> None:
    draw = make(5)
    alarms = {FEWEST: 0, 4 * FEWEST: 0}
    for _ in range(6):
        own = draw(400)
        reference = make_reference(own, torch.arange(400), fingerprint=_MARK, source="a test")
        for count in alarms:
            alarms[count] += sum(distance(draw(count), reference) > reference.threshold for _ in range(100))
    assert alarms[FEWEST] <= 24
    assert alarms[4 * FEWEST] == 0
    assert all(distance(draw(FEWEST) + 1.0, reference) > reference.threshold for _ in range(20))


def test_images_of_one_patient_vary_together_and_the_threshold_knows_it() -> None:
    generator = torch.Generator().manual_seed(6)
    patients = torch.randn(60, _WIDTH, generator=generator).repeat_interleave(5, 0)
    features, groups = (
        patients + 0.3 * torch.randn(300, _WIDTH, generator=generator),
        torch.arange(60).repeat_interleave(5),
    )
    by_patient, by_image = (chance_distance(features, which, _MARK) for which in (groups, torch.arange(300)))
    assert by_patient > 1.5 * by_image
    assert chance_distance(features, groups, _MARK) == by_patient


def test_what_cannot_have_a_threshold() -> None:
    draw = _normal(7)
    with pytest.raises(ConfigError, match="A reference of 99 images: a threshold needs 100 or more"):
        _made(draw(99), threshold=0.0)
    assert _made(draw(99), threshold=0.4).threshold == 0.4
    with pytest.raises(ConfigError, match="A reference of 9 patients: a threshold needs 10"):
        chance_distance(draw(200), torch.arange(200) % 9, _MARK)
    with pytest.raises(ConfigError, match="all are alike"):
        _made(torch.ones(200, _WIDTH), threshold=0.0)
