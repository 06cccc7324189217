from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from simulations.audit.head_features import image_of_feature, read_features
from simulations.audit.image_search import Search
from simulations.audit.public_images import Span
from simulations.audit.site_update import batch_of, mean_gradient
from tests.simulations.audit.runs import audit_run, random_split

HEAD = ("head.weight", "head.bias")


def test_one_images_feature_is_read_to_four_digits(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    learner, batch = run.fresh(), batch_of(run.data.train, torch.tensor([5]))
    update = mean_gradient(learner, batch, HEAD)
    found = read_features(update["head.weight"], update["head.bias"])
    assert found.shape == (1, 16)
    torch.testing.assert_close(found, learner.features(255 * batch.images).detach(), rtol=1e-4, atol=1e-4)


def test_of_a_batch_each_class_gives_one_feature_and_no_more(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    rows = torch.stack([(run.data.train.labels == c).nonzero()[0, 0] for c in (0, 2)])
    batch = batch_of(run.data.train, rows)
    update = mean_gradient(run.fresh(), batch, HEAD)
    assert 1 <= len(read_features(update["head.weight"], update["head.bias"])) <= 2


def test_the_strongest_class_comes_first() -> None:
    bias = torch.tensor([-0.1, 0.7, -0.6])
    features = torch.tensor([[1.0, 2.0], [9.0, 9.0], [3.0, 4.0]])
    torch.testing.assert_close(read_features(bias[:, None] * features, bias), features[[2, 0]])


def test_an_image_is_found_whose_feature_points_there(tiny_backbone: Path) -> None:
    learner = audit_run(tiny_backbone).fresh()
    span = Span.of(random_split(40).images.float() / 255, 20)
    wanted = learner.features(
        255 * span.images(torch.randn(1, 20, generator=torch.Generator().manual_seed(1)))
    ).detach()
    image = image_of_feature(learner, wanted, span, Search(80, 0.1, 0.0))
    before = cosine_similarity(learner.features(255 * span.mean[None]), wanted)
    after = cosine_similarity(learner.features(255 * image), wanted)
    assert float(1 - after.detach()) < 0.2 * float(1 - before.detach())
