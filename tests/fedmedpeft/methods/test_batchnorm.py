from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Inserted, load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.tasks import Classification
from tests.tiny_resnet import resnet_record

_SITE = "batchnorm(statistics='site')"


def _learner(directory: Path, method: str) -> Learner:
    return Learner(load_backbone(str(directory)), method, Classification(("a", "b")), 0)


def _images(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def _batchnorms(learner: Learner) -> dict[str, nn.BatchNorm2d]:
    return {place.key: place.original for place in learner.backbone.places("batchnorm")}  # type: ignore[misc]


def _train(learner: Learner, images: torch.Tensor) -> None:
    learner.train()
    learner(images).square().sum().backward()


@pytest.mark.parametrize("method", ["batchnorm", "full", "bitfit", "head", "ssf", "tsa"])
def test_training_never_moves_pretrained_statistics(tiny_resnet: Path, method: str) -> None:
    learner = _learner(tiny_resnet, method)
    buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    before = learner.eval().features(_images())
    _train(learner, _images())
    assert torch.equal(learner.features(_images()), before)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in learner.named_buffers())
    assert not learner.kept()


def test_site_statistics_start_at_the_pretrained_ones(tiny_resnet: Path) -> None:
    learner = _learner(tiny_resnet, _SITE).eval()
    assert torch.equal(learner.features(_images()), _learner(tiny_resnet, "head").features(_images()))
    for key, original in _batchnorms(learner).items():
        assert torch.equal(learner.kept()[f"{key}.running_mean"], original.running_mean)  # type: ignore[arg-type]
        assert torch.equal(learner.kept()[f"{key}.running_var"], original.running_var)  # type: ignore[arg-type]


def test_training_computes_and_moves_statistics_as_torch_does(tiny_resnet: Path) -> None:
    """Against an untouched backbone whose BatchNorms are put into training mode."""
    learner, oracle = _learner(tiny_resnet, "batchnorm(statistics='site', momentum=0.3)"), _learner(tiny_resnet, "head")
    pretrained = {key: original.running_mean.clone() for key, original in _batchnorms(learner).items()}  # type: ignore[union-attr]
    learner.train()
    for batchnorm in _batchnorms(oracle).values():
        batchnorm.train()
        batchnorm.momentum = 0.3
    assert torch.equal(learner.features(_images()), oracle.features(_images()))
    kept = learner.kept()
    for key, batchnorm in _batchnorms(oracle).items():
        assert torch.equal(kept[f"{key}.running_mean"], batchnorm.running_mean)  # type: ignore[arg-type]
        assert torch.equal(kept[f"{key}.running_var"], batchnorm.running_var)  # type: ignore[arg-type]
    learner.eval(), oracle.eval()
    assert torch.equal(learner.features(_images()), oracle.features(_images()))
    for key, original in _batchnorms(learner).items():
        assert torch.equal(original.running_mean, pretrained[key])  # type: ignore[arg-type]


def test_evaluation_does_not_move_statistics(tiny_resnet: Path) -> None:
    learner = _learner(tiny_resnet, _SITE).eval()
    before = {name: tensor.clone() for name, tensor in learner.kept().items()}
    learner(_images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.kept().items())


def test_one_image_is_normalised_by_the_statistics_and_leaves_them(tiny_resnet: Path) -> None:
    learner = _learner(tiny_resnet, _SITE)
    before = {name: tensor.clone() for name, tensor in learner.kept().items()}
    _train(learner, _images(1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.kept().items())
    _train(learner, _images(2))
    assert not any(torch.equal(tensor, before[name]) for name, tensor in learner.kept().items())


def test_what_is_not_given_goes_back_to_its_start(tiny_resnet: Path) -> None:
    learner = _learner(tiny_resnet, _SITE)
    start = {name: tensor.clone() for name, tensor in learner.kept().items()}
    _train(learner, _images())
    moved = {name: tensor.clone() for name, tensor in learner.kept().items()}
    learner.load_kept({})
    assert all(torch.equal(tensor, start[name]) for name, tensor in learner.kept().items())
    learner.load_kept(moved)
    assert all(torch.equal(tensor, moved[name]) for name, tensor in learner.kept().items())


def test_statistics_are_never_exchanged(tiny_resnet: Path) -> None:
    frozen, site = _learner(tiny_resnet, "batchnorm"), _learner(tiny_resnet, _SITE)
    assert site.manifest() == frozen.manifest()
    assert len(site.kept()) == 2 * len(_batchnorms(site))
    assert not site.kept().keys() & {spec.name for spec in site.manifest().tensors}


def test_merging_gives_a_plain_batchnorm_with_the_site_s_statistics(tiny_resnet: Path) -> None:
    learner = _learner(tiny_resnet, _SITE)
    _train(learner, _images())
    before = learner.eval().features(_images())
    for place in learner.backbone.places("batchnorm"):
        module = place.current
        assert isinstance(module, Inserted)
        setattr(place.owner, place.attribute, module.merged(place.original))
    assert not learner.kept()
    assert torch.equal(learner.features(_images()), before)


def test_count_on_resnet_50() -> None:
    for method in ("batchnorm", _SITE):
        learner = learner_skeleton(resnet_record(), method, "abc")
        assert learner.manifest().numel("method") == 53_120
    assert sum(tensor.numel() for tensor in learner.kept().values()) == 53_120


def test_a_momentum_that_moves_nothing_is_refused(tiny_resnet: Path) -> None:
    with pytest.raises(ConfigError, match=r"momentum=0\.3 moves nothing with frozen statistics"):
        _learner(tiny_resnet, "batchnorm(momentum=0.3)")
