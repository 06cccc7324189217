from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import EMBEDDED, load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import build_source
from fedmedpeft.data.run_partition import partition_for
from fedmedpeft.data.site_data import load_site
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.privacy.domain import (
    FeatureReference,
    frozen_features,
    image_groups,
    judge,
    shipped_reference,
)
from fedmedpeft.privacy.domain_distance import FEWEST, make_reference
from fedmedpeft.privacy.domain_reference import REFERENCE_FILE
from fedmedpeft.tasks import Classification

_MARK = "a" * 64


def _features(count: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(count)) + shift


def _reference(fingerprint: str = _MARK, width: int = 24) -> FeatureReference:
    zeros, ones = torch.zeros(width), torch.ones(width)
    return FeatureReference(zeros, ones, 10_000, fingerprint, "the pretraining images", 0.3)


def _split(count: int, seed: int = 0, size: int = 32) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return Split(images, torch.zeros(count, dtype=torch.int64), np.arange(count))


def test_like_the_reference_is_within_and_unlike_it_is_out() -> None:
    within, out = judge(_features(200), _reference()), judge(_features(200, shift=0.5), _reference())
    assert not within.foreign
    assert within.distance is not None
    assert within.distance < 0.1
    assert out.foreign
    assert out.distance == pytest.approx(0.5, abs=0.1)
    assert out.why.endswith("out of the domain (up to 0.300) of the pretraining images")


def test_a_threshold_that_is_given_stands_in_for_the_reference_s() -> None:
    assert not judge(_features(200, shift=0.5), _reference(), threshold=0.7).foreign
    assert judge(_features(200, shift=0.2), _reference(), threshold=0.05).foreign
    assert not judge(_features(200, shift=0.2), _reference()).foreign


@pytest.mark.parametrize(
    ("features", "reference", "why"),
    [
        (_features(200), None, "no reference"),
        (_features(FEWEST - 1), _reference(), "49 images; below 50"),
        (torch.zeros(0, 0), _reference(), "0 images"),
        (_features(200).index_fill(0, torch.tensor([7]), float("nan")), _reference(), "not finite"),
    ],
)
def test_where_nobody_can_tell_it_is_out(features: torch.Tensor, reference: FeatureReference | None, why: str) -> None:
    verdict = judge(features, reference)
    assert verdict.foreign
    assert verdict.distance is None
    assert why in verdict.why


def test_a_reference_of_another_backbone_is_refused_whatever_it_would_say() -> None:
    assert not judge(_features(200), _reference(), fingerprint=_MARK).foreign
    with pytest.raises(ConfigError, match="fingerprint aaaaaaaaaaaa; this one has bbbbbbbbbbbb. Make one with this"):
        judge(_features(3), _reference(), fingerprint="b" * 64)


def test_features_are_those_of_the_learner_s_frozen_backbone(tiny_backbone: Path) -> None:
    learner = Learner(load_backbone(str(tiny_backbone)), "head", Classification(("a", "b")), 0)
    split = _split(70)
    with torch.no_grad():
        expected = learner.features(split.images)
    torch.testing.assert_close(
        frozen_features(load_backbone(str(tiny_backbone)), split), expected, atol=1e-5, rtol=1e-4
    )


def test_at_most_so_many_the_same_every_time(tiny_backbone: Path) -> None:
    backbone, split = load_backbone(str(tiny_backbone)), _split(40)
    some, every = frozen_features(backbone, split, limit=12), frozen_features(backbone, split)
    assert torch.equal(some, frozen_features(backbone, split, limit=12))
    rows = [int((every - row).abs().sum(1).argmin()) for row in some]
    assert len(set(rows)) == 12
    assert max(rows) > 20
    assert frozen_features(backbone, Split(split.images[:0], split.labels[:0], np.arange(0))).shape[0] == 0


def test_an_image_counts_once_however_many_questions_there_are_about_it(tiny_meter: str) -> None:
    """No text is read: the feature is the class token of the image's tower."""
    backbone, images = load_backbone(tiny_meter), _split(3).images
    split = Split(images, torch.zeros(6, dtype=torch.int64), np.arange(6), torch.tensor([0, 0, 0, 1, 2, 2]))
    features = frozen_features(backbone, split)
    assert backbone.image_transformer is not None
    preprocessing = backbone.record.preprocessing
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        tokens = backbone.image_transformer((images.float() / 255 - mean) / std)
    torch.testing.assert_close(features, tokens[:, 0])


def test_a_backbone_with_something_inserted_is_refused(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    METHODS.build("lora").insert(backbone, Initialiser(0, torch.device("cpu")))
    with pytest.raises(ValueError, match="something inserted"):
        frozen_features(backbone, _split(3))


def test_whose_images_they_are() -> None:
    split = _split(5)
    assert image_groups(split).tolist() == [0, 1, 2, 3, 4]
    rows = torch.tensor([0, 1, 1, 2, 3, 4])
    asked = Split(split.images, rows, np.arange(6), rows, patient_of=torch.tensor([4, 9, 9, 4, 1, 1]))
    assert image_groups(asked).tolist() == [4, 9, 4, 1, 1]
    assert len(image_groups(asked, limit=2)) == 2


def test_a_reference_beside_the_weights_is_found_unless_it_is_of_others(tiny_backbone: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    backbone = load_backbone(str(directory))
    assert shipped_reference(backbone) is None
    _reference(backbone.fingerprint, width=16).save(directory / REFERENCE_FILE)
    assert shipped_reference(load_backbone(str(directory))) is not None
    assert shipped_reference(load_backbone(str(directory), image_size=64)) is None
    (directory / REFERENCE_FILE).write_text("{}")
    with pytest.raises(ConfigError, match="is not a feature reference"):
        shipped_reference(backbone)


def test_the_embedded_backbone_ships_one_and_it_is_small() -> None:
    backbone = load_backbone(EMBEDDED)
    reference = shipped_reference(backbone)
    assert reference is not None
    assert reference.source == "4,000 images computed from formulas"
    assert 0.15 < reference.threshold < 0.3
    assert len(reference.mean) == backbone.feature_size
    assert (
        json.loads((Path(__file__).parents[3] / "fedmedpeft/backbones/embedded/fingerprint.json").read_text())["sha256"]
        == reference.fingerprint
    )


@pytest.fixture(scope="module")
def laboratories(shared_data: Path) -> dict[str, torch.Tensor]:
    """Features of up to 200 blood cells of each laboratory."""
    path = shared_data / "blood_cells_multisite" / "labels.csv"
    return _by_site(f"manifest(path='{path}', classes='eosinophil,lymphocyte,monocyte,neutrophil')")


def test_real_images_are_out_of_the_embedded_backbone_s_domain(
    shared_data: Path, laboratories: dict[str, torch.Tensor]
) -> None:
    backbone = load_backbone(EMBEDDED)
    breast = _by_site(f"medmnist(path='{shared_data}/medmnist/breastmnist.npz')")
    for features in (*laboratories.values(), *breast.values()):
        assert judge(features, shipped_reference(backbone), fingerprint=backbone.fingerprint).foreign


def test_another_laboratory_is_out_of_the_domain_of_one(laboratories: dict[str, torch.Tensor]) -> None:
    """Halves of one laboratory's images against each other, and the other laboratories'."""
    own = laboratories["barcelona_clinic_cellavision_dm96"]
    half = own[::2]
    reference = make_reference(half, torch.arange(len(half)), fingerprint=_MARK, source="the first laboratory")
    foreign = {site: judge(features, reference).foreign for site, features in laboratories.items()}
    assert not judge(own[1::2], reference).foreign
    assert [site for site, is_foreign in foreign.items() if not is_foreign] == ["barcelona_clinic_cellavision_dm96"]


def _by_site(data: str) -> dict[str, torch.Tensor]:
    config, backbone = RunConfig.from_mapping({"data": data}), load_backbone(EMBEDDED)
    source = build_source(data)
    manifest = partition_for(config, source, 0)
    sites = (load_site(source, manifest, site, image_size=64) for site in manifest.sites)
    return {site.site: frozen_features(backbone, site.train, limit=200) for site in sites}
