"""``dp_capable`` keeps its word: per-record gradients by hooks equal those of one record at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import parse_composition
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS
from fedmedpeft.tasks import Classification
from tests.every_method import BACKBONES, EVERY_METHOD, cases, texts

GradSampleModule = pytest.importorskip("opacus", reason="per-record gradients need opacus").GradSampleModule

_LABELS = torch.tensor([0, 1, 2, 0])
_OPTIONS = [
    "adaptformer(layernorm=true)",
    "kpl-adapter(placement='parallel', init='zero')",
    "attention(position=true)",
    "vpt-shallow(project=4)",
    "vpt-deep(project=4)",
    "decomposed-vpt(deep=false)",
    "lora+ssf+vpt-deep",
    "dynamic-vpt(form='released', share=1)+position",
    "bitfit+peft:lora",
    "prefix(cross=true, offset=true)+p-tuning-v2",
    "kpl+layernorm",
    "lora(factors='ffa')",
    "lora(factors='rolora')",
]


def _learner(backbone: str, method: str, request: pytest.FixtureRequest) -> Learner:
    """With every trainable moved off its start; in float64, since gradients through attention may be very small."""
    name = request.getfixturevalue(BACKBONES[backbone])
    learner = Learner(load_backbone(str(name)), method, Classification(("a", "b", "c")), 0)
    generator = torch.Generator().manual_seed(5)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner.double().eval()


def _records(learner: Learner, knowledge: bool) -> tuple[Any, ...]:
    """Images, and questions and knowledge where they are read."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    said = texts(learner, 4)
    return images, *said, *([said[0].rows(torch.tensor([2, 0, 3, 1]))] if knowledge else [])


def _one_by_one(learner: Learner, knowledge: bool) -> dict[str, torch.Tensor]:
    gradients = []
    names, parameters = zip(*((name, t.parameter) for name, t in learner.trainables.items()), strict=True)
    images, *said = _records(learner, knowledge)
    for index in torch.arange(len(images)).split(1):
        loss = nn.functional.cross_entropy(learner(images[index], *(each.rows(index) for each in said)), _LABELS[index])
        gradients.append(torch.autograd.grad(loss, parameters))
    return {name: torch.stack(each) for name, each in zip(names, zip(*gradients, strict=True), strict=True)}


def _by_hooks(learner: Learner, knowledge: bool = False) -> dict[str, torch.Tensor | None]:
    """Opacus watches modules in training mode alone; only the parameters' owners are put into it, so nothing drops."""
    trained = {id(t.parameter) for t in learner.trainables.values()}
    for module in learner.modules():
        module.training = any(id(parameter) in trained for parameter in module.parameters(recurse=False))
    hooked = GradSampleModule(learner, loss_reduction="sum")
    nn.functional.cross_entropy(hooked(*_records(learner, knowledge)), _LABELS, reduction="sum").backward()
    return {name: getattr(t.parameter, "grad_sample", None) for name, t in learner.trainables.items()}


def _difference(learner: Learner, knowledge: bool = False) -> str:
    """The first parameter whose per-record gradients are wrong or missing; empty where all are right."""
    expected = _one_by_one(learner, knowledge)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, found in _by_hooks(learner, knowledge).items():
        if found is None or not torch.allclose(found, expected[name], rtol=1e-6, atol=1e-9 * largest):
            return name
    return ""


def _capable(method: str) -> bool:
    return all(METHODS.build(spec).dp_capable for spec in parse_composition(method))


_METHODS = [*EVERY_METHOD, *_OPTIONS]
_CAPABLE = cases(m for m in _METHODS if _capable(m))
# A trained BatchNorm has statistics beside it, which no bound on gradients covers, whichever method trains it.
_BATCHNORM = [("resnet", method) for method in ("bitfit", "blocks", "full")]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(("backbone", "method"), [case for case in _CAPABLE if case not in _BATCHNORM])
def test_gradients_of_single_records(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    assert not _difference(_learner(backbone, method, request))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(
    "method", ["kpl", "kpl(unused_norm=false)", "m3ad", "lora", "attention", "full", "prefix(cross=true)"]
)
def test_with_knowledge(method: str, request: pytest.FixtureRequest) -> None:
    """The cross-attention is called a second time then."""
    assert not _difference(_learner("meter", method, request), knowledge=True)


@pytest.mark.parametrize(("backbone", "method"), _BATCHNORM)
def test_a_trained_batchnorm_is_refused(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(NotImplementedError, match="buffers"):
        _by_hooks(_learner(backbone, method, request))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(("backbone", "method"), cases(m for m in _METHODS if not _capable(m)))
def test_the_others_cannot(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    """Opacus refuses them, stumbles over them, or gets them wrong without a word."""
    learner = _learner(backbone, method, request)
    try:
        difference = _difference(learner)
    except Exception:
        return
    assert difference
