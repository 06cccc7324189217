from __future__ import annotations

from pathlib import Path

import torch

from fedmedpeft.learner import Learner
from simulations.audit.gradient_matching import gradient_distance, match_gradient, single_label
from simulations.audit.image_scores import psnr
from simulations.audit.image_search import Search
from simulations.audit.public_images import Span
from simulations.audit.site_update import Batch, Update, mean_gradient
from tests.simulations.audit.runs import audit_run, random_split

SPAN = Span.of(random_split(30).images.float() / 255, 6)
SEARCH = Search(80, 0.15, 0.0)
LABEL = torch.tensor([1])


def planted(backbone: Path) -> tuple[Learner, torch.Tensor, Update]:
    learner = audit_run(backbone, method="layernorm").fresh()
    image = SPAN.images(torch.randn(1, 6, generator=torch.Generator().manual_seed(3)))
    return learner, image, mean_gradient(learner, Batch(image, LABEL), list(learner.trainables))


def test_an_image_that_public_ones_span_is_rebuilt(tiny_backbone: Path) -> None:
    learner, image, wanted = planted(tiny_backbone)
    rebuilt = match_gradient(learner, wanted, LABEL, SPAN, SEARCH, seed=0)
    found = mean_gradient(learner, Batch(rebuilt, LABEL), wanted)
    blind = mean_gradient(learner, Batch(SPAN.mean[None], LABEL), wanted)
    assert float(gradient_distance(found, wanted)) < 0.1 * float(gradient_distance(blind, wanted))
    assert psnr(rebuilt[0], image[0]) > psnr(SPAN.mean, image[0]) + 6
    assert torch.equal(rebuilt, match_gradient(learner, wanted, LABEL, SPAN, SEARCH, seed=0))


def test_noise_in_the_gradient_leaves_nothing_of_the_image(tiny_backbone: Path) -> None:
    learner, image, wanted = planted(tiny_backbone)
    generator = torch.Generator().manual_seed(0)
    noisy = {name: value + 3 * torch.randn(value.shape, generator=generator) for name, value in wanted.items()}
    rebuilt = match_gradient(learner, noisy, LABEL, SPAN, SEARCH, seed=0)
    assert psnr(rebuilt[0], image[0]) < psnr(SPAN.mean, image[0]) + 1


def test_the_label_of_one_image_is_read_from_the_bias(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    for row in range(8):
        image, label = run.data.train.images[row : row + 1].float() / 255, run.data.train.labels[row : row + 1]
        update = mean_gradient(run.fresh(), Batch(image, label), ["head.bias"])
        assert single_label(update["head.bias"]) == int(label)
