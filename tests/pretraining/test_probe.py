from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmedpeft.data import build_source
from pretraining.probe import (
    ProbeSet,
    features_of,
    from_source,
    markdown,
    pixels_of,
    random_backbone,
    score,
    unseen_formulas,
)


def _set(images: torch.Tensor, labels: np.ndarray) -> ProbeSet:
    return ProbeSet("made", images, labels, np.arange(len(labels)) % 4 == 3)


def test_separable_features_score_one_and_noise_scores_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    data = _set(torch.zeros(400, 3, 64, 64), labels)
    separable = (labels[:, None] + 0.1 * rng.normal(size=(400, 4))).astype(np.float32)
    noise = rng.normal(size=(400, 4)).astype(np.float32)

    assert score(separable, data) == 1.0
    assert score(noise, data) == pytest.approx(0.5, abs=0.15)


def test_the_score_is_balanced() -> None:
    """With nine to one and features that say nothing, plain accuracy would reward the larger class."""
    rng = np.random.default_rng(0)
    labels = (np.arange(800) % 10 == 0).astype(np.int64)
    data = _set(torch.zeros(800, 3, 64, 64), labels)

    assert score(rng.normal(size=(800, 3)).astype(np.float32), data) < 0.7


def test_features_do_not_depend_on_the_batch_and_random_networks_on_their_seed_only() -> None:
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    extract = features_of(random_backbone(0))

    assert extract(images).shape == (3, 192)
    np.testing.assert_allclose(extract(images)[:1], extract(images[:1]), atol=1e-4)
    np.testing.assert_array_equal(extract(images), features_of(random_backbone(0))(images))
    assert not np.allclose(extract(images), features_of(random_backbone(1))(images))
    assert pixels_of(images).shape == (3, 768)


def test_phantoms_become_a_probe_set() -> None:
    data = from_source("phantoms", build_source("phantoms(images=40, seed=1)"))

    assert data.images.shape == (40, 3, 64, 64)
    assert 0 < data.test.sum() < 20
    assert data.images.abs().max() <= 2.0001


def test_unseen_formulas_are_balanced_in_train_and_test() -> None:
    data = unseen_formulas(categories=3, renderings=8)

    assert np.bincount(data.labels[data.test]).tolist() == [2, 2, 2]
    assert np.bincount(data.labels[~data.test]).tolist() == [6, 6, 6]


def test_the_table_shows_the_deviation_where_there_are_several_seeds() -> None:
    data = _set(torch.zeros(8, 3, 64, 64), np.zeros(8, np.int64))
    lines = markdown([data], {"one": [[0.5]], "two": [[0.4, 0.6]]}).splitlines()

    assert lines[0] == "| features | made (2 test) |"
    assert lines[2:] == ["| one | 50.0 |", "| two | 50.0 ± 10.0 |"]
