from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import load_backbone, standard_record
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.methods import METHODS, Rotation
from fedmedpeft.methods.layernorm import LayerNorm
from fedmedpeft.tasks import Classification


def _vit_b(method: str) -> Learner:
    return learner_skeleton(standard_record("b"), method, ["a", "b"])


@pytest.mark.parametrize(
    ("method", "in_a_round", "in_all"),
    [
        ("sba", 2_362_368, 28_348_416),
        ("sba(blocks=3)", 3 * 2_362_368, 28_348_416),
        ("sba(blocks=12)", 28_348_416, 28_348_416),
        ("sba(norms=true)", 2_362_368 + 1_536, 28_348_416 + 12 * 1_536),
        ("sba+layernorm", 2_362_368 + 38_400, 28_348_416 + 38_400),
        # What layernorm trains too is trained in every round.
        ("layernorm+sba(norms=true)", 2_362_368 + 38_400, 28_348_416 + 38_400),
        ("bitfit+sba", 4 * 768 * 768 + 102_912, 48 * 768 * 768 + 102_912),
    ],
)
def test_counts_on_vit_b(method: str, in_a_round: int, in_all: int) -> None:
    learner = _vit_b(method)
    assert learner.manifest().numel("method") == in_all
    for round_ in (1, 2, 3):
        part = learner.rotation.part(learner.manifest(), learner.rotation.draw(0, round_))
        assert part.numel("method") == in_a_round
        assert part.numel("head") == 2 * 769


def test_a_group_is_the_attention_of_one_block() -> None:
    groups = _vit_b("sba").rotation.groups
    assert list(groups) == [f"blocks.{i}" for i in range(12)]
    expected = {f"blocks.10.{role}.{kind}" for role in "qkvo" for kind in ("weight", "bias")}
    assert groups["blocks.10"] == expected


def test_a_personal_part_takes_turns_and_never_travels() -> None:
    learner = _vit_b("sba")
    manifest = learner.manifest(without=["sba"])
    assert learner.rotation.part(manifest, ["blocks.3"]) == manifest
    assert learner.rotation.resting(["blocks.3"])


def test_no_more_blocks_than_there_are() -> None:
    with pytest.raises(ConfigError, match="the backbone has 12 blocks"):
        _vit_b("sba(blocks=13)")


def test_two_methods_that_take_turns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def rotation(self: LayerNorm, keys: Iterable[str]) -> Rotation:
        return Rotation({"all": frozenset(keys)}, 1)

    monkeypatch.setattr(LayerNorm, "rotation", rotation)
    with pytest.raises(ConfigError, match="layernorm and sba"):
        _vit_b("layernorm+sba")


@pytest.mark.parametrize("method", ["attention+sba", "full+sba", "blocks+sba"])
def test_turns_of_what_is_trained_anyway_are_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=r"'sba' has nothing left to train in blocks\.(0|10),"):
        _vit_b(method)


@pytest.mark.parametrize("method", [name for name in METHODS.names() if name != "sba"])
def test_nothing_else_takes_turns(method: str) -> None:
    assert METHODS.build(method).rotation(["blocks.0.q.weight"]) is None


def test_only_those_whose_turn_it_is_get_gradients(tiny_backbone: Path) -> None:
    learner = Learner(load_backbone(str(tiny_backbone)), "sba+lora", Classification(("a", "b")), 0)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    resting = learner.rotation.resting(["blocks.1"])
    with learner.taking_turns(["blocks.1"]):
        cross_entropy(learner(images), torch.tensor([0, 1])).backward()
    assert resting == {name for name, t in learner.trainables.items() if t.parameter.grad is None}
    assert all(t.parameter.requires_grad for t in learner.trainables.values())
    with pytest.raises(RuntimeError, match="stop"), learner.taking_turns(["blocks.0"]):
        raise RuntimeError("stop")
    assert all(t.parameter.requires_grad for t in learner.trainables.values())
