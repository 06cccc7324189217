"""Hooks that keep every record's gradient."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from fedmedpeft.methods.lora import LoraLinear
from fedmedpeft.training.per_record import watching
from tests.private_sites import learner_of, split_of


def test_every_backward_gives_its_own_records(tiny_backbone: Path) -> None:
    learner = learner_of(str(tiny_backbone), "lora")
    images = split_of(learner).images
    with watching(learner) as take:
        for count in (3, 1, 4):
            learner(images[:count]).square().sum().backward()
            found = take(count)
            assert found.keys() == learner.trainables.keys()
            assert all(len(each) == count for each in found.values())
            assert take(count) == {}
    assert not learner.training


def test_calls_that_no_gradient_comes_back_to_are_forgotten(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every step would keep its activations until the end."""
    learner = learner_of(str(tiny_backbone), "lora")
    place = learner.backbone.places("q")[0]
    layer, images = cast(LoraLinear, place.current), split_of(learner).images
    monkeypatch.setattr(layer, "forward", lambda x: (layer.up(layer.down(x)), layer.base(x))[1])
    with watching(learner) as take:
        for _ in range(2):
            learner(images).sum().backward()
            found = take(len(images))
            assert learner.trainables.keys() - found.keys() == {f"{place.key}.lora_A", f"{place.key}.lora_B"}
            assert not any("activations" in vars(module) for module in learner.modules())
        monkeypatch.undo()
        learner(images).sum().backward()
        assert take(len(images)).keys() == learner.trainables.keys()
