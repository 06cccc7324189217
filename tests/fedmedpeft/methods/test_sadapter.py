"""SAdapters and KPL beyond their reference values: how they start, what they share, what they leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import load_backbone, skeleton
from fedmedpeft.backbones.record import standard_meter_record
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, UnsuitableBackbone
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.methods.sharing_adapter import BesideSublayer, SharingAdapter
from fedmedpeft.tasks import Classification
from tests.every_method import texts

_LABELS = torch.tensor([0, 1, 2, 0])


def _learner(backbone: str, method: str) -> Learner:
    return Learner(load_backbone(backbone), method, Classification(("a", "b", "c")), 0)


def _loss(learner: Learner) -> torch.Tensor:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    text = texts(learner, 4)[0]
    return cross_entropy(learner(images, text, text.rows(torch.tensor([3, 1, 0, 2]))), _LABELS)


def test_one_module_for_each_depth_in_four_places(tiny_meter: str) -> None:
    backbone = _learner(tiny_meter, "sadapter").backbone
    modules = [module for module in backbone.modules() if isinstance(module, SharingAdapter)]
    around = [module for module in backbone.modules() if isinstance(module, BesideSublayer)]
    assert (len(modules), len(around)) == (2, 8)
    parents = [m for m in backbone.modules() for child in m.children() if isinstance(child, SharingAdapter)]
    assert len(parents) == 2


def test_a_copy_shares_as_the_original_does(tiny_meter: str) -> None:
    learner = _learner(tiny_meter, "sadapter").eval()
    twin = copy.deepcopy(learner)
    with torch.no_grad():
        before = _loss(learner)
        for trainable in twin.trainables.values():
            trainable.parameter.add_(0.1)
        assert torch.equal(_loss(learner), before)
        assert not torch.equal(_loss(twin), before)


@pytest.mark.parametrize("method", ["sadapter(init='zero', dropout=0.0)", "kpl(init='zero', dropout=0.0)"])
def test_zero_starts_frozen_and_still_learns(method: str, tiny_meter: str) -> None:
    """At the corner of the outer activation: with torch's slope of zero there nothing would ever move."""
    learner = _learner(tiny_meter, method)
    with torch.no_grad():
        assert torch.equal(_loss(learner), _loss(_learner(tiny_meter, "head")))
    _loss(learner).backward()
    for key, trainable in learner.trainables.items():
        if trainable.part == "method":
            assert trainable.parameter.grad is not None
            assert bool(trainable.parameter.grad.abs().max() > 0) == (".up." in key), key
    moving = {k: t.parameter for k, t in learner.trainables.items() if t.part == "method" and "unused" not in k}
    before = {key: parameter.detach().clone() for key, parameter in moving.items()}
    optimiser = torch.optim.Adam(moving.values(), lr=3e-3)
    start = _loss(learner).item()
    for _ in range(10):
        optimiser.zero_grad()
        _loss(learner).backward()
        optimiser.step()
    assert _loss(learner).item() < start
    assert all(not torch.equal(parameter, before[key]) for key, parameter in moving.items())


@pytest.mark.parametrize(("method", "frozen"), [("sadapter", False), ("kpl", False), ("sadapter(init='zero')", True)])
def test_says_whether_it_starts_frozen(method: str, frozen: bool) -> None:
    assert METHODS.build(method).starts_frozen is frozen


def test_the_published_start_is_normal() -> None:
    backbone = skeleton(standard_meter_record())
    keys = list(METHODS.build("kpl").insert(backbone, Initialiser(0, torch.device("meta"))))
    assert len(keys) == 23 * 4 + 6 * (3 * 4 + 4)
    init = Initialiser(0, torch.device("cpu"))
    drawn = init.normal("fusion.0.kpl.text.down.weight", 128, 768, std=0.02)
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)


def test_training_leaves_the_unused_norm_to_the_bit(tiny_meter: str) -> None:
    learner = _learner(tiny_meter, "kpl").train()
    idle = {key: t.parameter for key, t in learner.trainables.items() if ".unused_norm." in key}
    assert len(idle) == 4
    before = {key: parameter.detach().clone() for key, parameter in idle.items()}
    optimiser = torch.optim.AdamW([t.parameter for t in learner.trainables.values()], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        _loss(learner).backward()
        optimiser.step()
    assert all(torch.equal(parameter, before[key]) for key, parameter in idle.items())


def test_the_image_encoder_has_no_dropout_unless_told(tiny_meter: str) -> None:
    backbone = _learner(tiny_meter, "kpl").backbone
    drops = {
        name.split(".")[0]: module.drop
        for name, module in backbone.named_modules()
        if name.endswith("ffn.adapter") and hasattr(module, "drop")
    }
    assert drops == {"vision": 0.0, "text": 0.1}


def test_kpl_is_its_two_parts(tiny_meter: str) -> None:
    whole, parts = _learner(tiny_meter, "kpl"), _learner(tiny_meter, "kpl-adapter+sadapter")
    renamed = {key.replace("kpl_adapter", "kpl").replace("sadapter", "kpl") for key in parts.trainables}
    assert renamed == set(whole.trainables)
    for key, trainable in parts.trainables.items():
        ours = key.replace("kpl_adapter", "kpl").replace("sadapter", "kpl")
        whole.trainables[ours].parameter.data = trainable.parameter.data.clone()
    with torch.no_grad():
        assert torch.equal(_loss(whole), _loss(parts))


@pytest.mark.parametrize("method", ["sadapter(where='text')", "kpl(where='vision,text')"])
def test_without_co_attention_it_is_refused(method: str, tiny_meter: str) -> None:
    with pytest.raises(UnsuitableBackbone, match="acts on 'cross'"):
        _learner(tiny_meter, method)


def test_an_odd_width_is_refused() -> None:
    record = standard_meter_record()
    sizes = record.architecture.model_dump() | {"hidden_size": 15, "heads": 5}
    odd = type(record).model_validate(record.model_dump() | {"architecture": sizes})
    with pytest.raises(ConfigError, match="15 wide, which has no half"):
        METHODS.build("sadapter").insert(skeleton(odd), Initialiser(0, torch.device("meta")))


def test_the_corner_has_a_slope() -> None:
    """What ``SharingAdapter`` counts on."""
    at_zero = nn.Parameter(torch.zeros(1))
    at_zero.clamp(min=0.0).sum().backward()
    assert at_zero.grad is not None
    assert at_zero.grad.item() == 1.0
