"""One frozen backbone serves any number of sites: only what they train is exchanged for another site's, in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.exchange import PeftState
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification


def _state(learner: Learner, seed: int) -> PeftState:
    """A site's state, away from where all start."""
    manifest = learner.manifest()
    generator = torch.Generator().manual_seed(seed)
    start = learner.export(manifest).tensors()
    return PeftState.from_tensors(
        manifest,
        {name: values + torch.randn(values.shape, generator=generator).numpy() for name, values in start.items()},
    )


@pytest.mark.parametrize(
    "method", ["lora+layernorm", "houlsby", "vpt-deep", "full", "peft:oft", "peft:vera", "peft:unilora"]
)
@torch.no_grad()
def test_switching_touches_nothing_that_is_frozen_and_is_exact(tiny_backbone: Path, method: str) -> None:
    learner = Learner(load_backbone(str(tiny_backbone)), method, Classification(("a", "b")), 0).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    one, other = _state(learner, 1), _state(learner, 2)
    backbone, modules = learner.backbone, list(learner.modules())
    tensors = dict(learner.named_parameters()) | dict(learner.named_buffers())
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    trained = {id(trainable.parameter) for trainable in learner.trainables.values()}
    frozen = {name: tensor.clone() for name, tensor in tensors.items() if id(tensor) not in trained}

    learner.load(one)
    first = learner(images)
    learner.load(other)
    assert not torch.equal(learner(images), first)
    learner.load(one)
    assert torch.equal(learner(images), first)
    assert learner.export(learner.manifest()).hash() == one.hash()

    assert learner.backbone is backbone
    assert all(now is before for now, before in zip(learner.modules(), modules, strict=True))
    after = dict(learner.named_parameters()) | dict(learner.named_buffers())
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == addresses
    assert all(torch.equal(after[name], before) for name, before in frozen.items())
