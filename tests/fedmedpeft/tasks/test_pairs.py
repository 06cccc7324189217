from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.negatives import draw_negatives, find_candidates
from fedmedpeft.tasks.pairs import pair_reader, score_groups, score_table
from fedmedpeft.text import Text
from fedmedpeft.training.predictor import LearnerPredictor

METHODS = ("full", "lora(rank=2,where='text,fusion')+layernorm")
TEXTS, IMAGES, LENGTH = 9, 7, 6


def _learner(backbone: str, method: str) -> Learner:
    """In float64, so that two ways to compute the same differ by nothing that matters; its fusion far from flat."""
    learner = Learner(load_backbone(backbone), method, build_task("retrieval(negatives=4)"), 0).double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in learner.named_parameters():
        if "fusion" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return learner


def _split(*, knowledge: bool) -> Split:
    """Two images have two texts each."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, LENGTH + 1, (2, TEXTS), generator=generator)
    words, known = (
        Text(torch.randint(5, 60, (TEXTS, LENGTH), generator=generator), torch.arange(LENGTH) < length[:, None])
        for length in lengths
    )
    return Split(
        torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.zeros(TEXTS, dtype=torch.int64),
        np.arange(TEXTS),
        torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 3]),
        text=words,
        knowledge=known if knowledge else None,
    )


@pytest.mark.parametrize("knowledge", [False, True])
def test_every_pair_gets_what_the_whole_model_gives_it(tiny_meter: str, *, knowledge: bool) -> None:
    learner, split = _learner(tiny_meter, METHODS[1]), _split(knowledge=knowledge)
    rows = torch.arange(IMAGES)
    with torch.no_grad():
        table = score_table(pair_reader(LearnerPredictor(learner), split), rows, torch.arange(TEXTS))
        for image in range(IMAGES):
            for row in range(TEXTS):
                _, text, known = split.batch(torch.tensor([row]))
                alone = learner(split.images[image : image + 1], text, known)
                torch.testing.assert_close(table[image, row], alone[0, 0], rtol=0, atol=1e-10)


def test_each_text_brings_its_own_knowledge(tiny_meter: str) -> None:
    """Two rows that say the same but of which something else is known score apart, wherever they stand as negatives."""
    learner, split = _learner(tiny_meter, METHODS[0]), _split(knowledge=True)
    assert split.text is not None
    assert split.knowledge is not None
    split.text.ids[5], split.text.mask[5] = split.text.ids[2], split.text.mask[2]
    reader = pair_reader(LearnerPredictor(learner), split)
    with torch.no_grad():
        before = score_groups(reader, torch.tensor([0]), torch.tensor([[0, 2, 5]]))[0]
        split.knowledge.ids[5], split.knowledge.mask[5] = split.knowledge.ids[2], split.knowledge.mask[2]
        after = score_groups(reader, torch.tensor([0]), torch.tensor([[0, 2, 5]]))[0]
    assert abs(before[1] - before[2]) > 1e-5
    torch.testing.assert_close(after[1], after[2], rtol=0, atol=1e-12)
    assert torch.equal(before[:2], after[:2])


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_a_loop_over_pairs(tiny_meter: str, method: str) -> None:
    learner, split = _learner(tiny_meter, method), _split(knowledge=True)
    assert split.text is not None
    generator = torch.Generator().manual_seed(5)
    rows = torch.tensor([7, 0, 4])  # two texts of one image
    found = learner.task.loss(LearnerPredictor(learner), split, rows, prior=None, generator=generator)
    parameters = {name: trainable.parameter for name, trainable in learner.trainables.items()}
    gradients = torch.autograd.grad(found, list(parameters.values()))

    candidates = find_candidates(split.image_of, split.text, 2)
    negatives, present = draw_negatives(candidates, rows, 4, 2, torch.Generator().manual_seed(5))
    assert present.all()
    losses = []
    for row, others in zip(rows.tolist(), negatives.tolist(), strict=True):
        scores = []
        for text in (row, *others):
            images, _, _ = split.batch(torch.tensor([row]))
            _, words, known = split.batch(torch.tensor([text]))
            scores.append(learner(images, words, known)[0, 0])
        losses.append(torch.stack(scores).logsumexp(0) - scores[0])
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected)
    for name, mine, naive in zip(
        parameters, gradients, torch.autograd.grad(expected, list(parameters.values())), strict=True
    ):
        assert mine.abs().max() > 0 or naive.abs().max() < 1e-12, name
        torch.testing.assert_close(mine, naive, rtol=1e-8, atol=1e-12, msg=name)


def test_frozen_towers_read_each_image_and_text_once(tiny_meter: str) -> None:
    learner, split = _learner(tiny_meter, "lora(rank=2,where=fusion)"), _split(knowledge=False)
    seen: dict[str, int] = {"vision": 0, "text": 0}
    for name in seen:
        tower = getattr(learner.backbone, name)
        tower.register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, seen[name] + len(output))
        )
    with torch.no_grad():
        learner.task.evaluate(LearnerPredictor(learner), split)
    assert seen == {"vision": IMAGES, "text": TEXTS}
