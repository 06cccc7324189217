from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from simulations.audit.public_images import Span, public_images
from tests.simulations.audit.runs import audit_run, random_split


def test_the_sites_validation_images_are_taken_where_there_are_enough(tiny_backbone: Path) -> None:
    data = audit_run(tiny_backbone).data
    some = public_images(replace(data, val=random_split(9)), seed=0)
    torch.testing.assert_close(some, random_split(9).images.float() / 255)
    noise = public_images(data, seed=0)
    assert noise.shape == (64, 3, 32, 32)
    assert 0 <= float(noise.min()) < float(noise.max()) <= 1
    assert torch.equal(noise, public_images(data, seed=0))
    assert not torch.equal(noise, public_images(data, seed=1))


def test_a_span_has_the_mean_and_unit_steps_along_what_differs() -> None:
    axis = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(0))
    axis = (axis + axis.flip(1) + axis.flip(2) + axis.flip(1).flip(2)) / 4
    axis = (axis + axis.transpose(1, 2)) / 2  # no rotation or reflection changes it
    images = 0.5 + 0.1 * torch.linspace(-1, 1, 11).view(-1, 1, 1, 1) * (axis - axis.mean())
    span = Span.of(images, 1)
    torch.testing.assert_close(span.mean, torch.full((3, 6, 6), 0.5))
    deviation = float((0.1 * torch.linspace(-1, 1, 11)).square().mean().sqrt()) * (axis - axis.mean())
    moved = span.images(torch.ones(1, 1))[0] - 0.5
    torch.testing.assert_close(moved.abs(), deviation.abs(), rtol=1e-3, atol=1e-5)
