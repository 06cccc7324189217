"""Every method on a backbone that writes: what the server expects is what a site trains, and all of it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder, answer_loss
from fedmedpeft.learner import Learner, UnsuitableBackbone, learner_skeleton
from fedmedpeft.methods import METHODS
from fedmedpeft.tasks import build_task
from fedmedpeft.text import Text

_UNSUITABLE = {"batchnorm", "kpl", "sadapter", "textual-prompts", "tsa"}
_METHODS = [name for name in METHODS.names() if not name.startswith("peft:") and name != "head"]
_WITH_OPTIONS = {"blocks": "blocks(last=1)", "prefix": "prefix(cross=true, offset=true)"}


def _loss(learner: Learner) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    question = Text(torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]]), torch.tensor([[True] * 4, [True] * 3 + [False]]))
    answer = Text(torch.tensor([[2, 11, 3], [2, 12, 3]]), torch.ones(2, 3, dtype=torch.bool))
    backbone = learner.backbone
    assert isinstance(backbone, EncoderDecoder)
    return answer_loss(backbone.decode(learner.features(images, question), question.mask, answer), answer, 0.1).mean()


@pytest.mark.parametrize("name", _METHODS)
def test_the_contract_is_that_of_the_skeleton_and_every_parameter_learns(
    name: str, tiny_backbone: Path, tiny_text_tower: Path
) -> None:
    written = f"encoder-decoder(vision='{tiny_backbone}', text='{tiny_text_tower}', text_length=16)"
    backbone, method = load_backbone(written), _WITH_OPTIONS.get(name, name)
    if name in _UNSUITABLE:
        with pytest.raises(UnsuitableBackbone):
            learner_skeleton(backbone.record, method, (), "generation")
        return
    learner = Learner(backbone, method, build_task("generation"), 0)
    assert learner_skeleton(backbone.record, method, (), "generation").manifest() == learner.manifest()
    # The bias of keys has no influence in any attention.
    waiting = {key for key in learner.trainables if not key.endswith(".k.bias")}
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        for trainable in learner.trainables.values():
            trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
        _loss(learner).backward()
        waiting -= {key for key in waiting if learner.trainables[key].parameter.grad.abs().max() > 0}  # type: ignore[union-attr]
    assert not waiting
