from __future__ import annotations

import pytest
import torch

from pretraining.colouring import MEAN, STD, colour
from pretraining.formulas import render_corpus


def _maps() -> torch.Tensor:
    return torch.from_numpy(render_corpus(categories=8, count=4, size=64, seed=0)[0])


def _colour(resolution: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return colour(_maps(), resolution, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("resolution", [32, 48, 64])
def test_images_and_masks_have_the_resolution_and_lie_in_range(resolution: int) -> None:
    images, masks = _colour(resolution)

    assert images.shape == (32, 3, resolution, resolution)
    assert masks.shape == (32, 2, resolution, resolution)
    assert masks.min() >= -1e-5
    assert masks.max() <= 1 + 1e-5
    assert images.min() >= (0 - MEAN) / STD - 1e-5
    assert images.max() <= (1 - MEAN) / STD + 1e-5


def test_the_generator_decides_everything() -> None:
    state = torch.random.get_rng_state()
    first, again, other = _colour(seed=1), _colour(seed=1), _colour(seed=2)

    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is left alone


def test_some_images_are_grey_and_some_are_not() -> None:
    # The mean over pixels takes the noise away, which is drawn for each channel.
    means = torch.cat([_colour(seed=seed)[0].mean((2, 3)) for seed in range(4)])
    spread = means.amax(1) - means.amin(1)

    assert 0.05 < (spread < 0.3).float().mean() < 0.8


def test_the_object_shows_where_its_mask_says() -> None:
    """Between inside and outside of the mask the colours differ more than between two random halves."""
    images, masks = _colour(64, seed=3)
    inside = masks[:, :1] > 0.5
    enough = (inside.float().mean((1, 2, 3)) > 0.05) & (inside.float().mean((1, 2, 3)) < 0.95)
    order = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))
    shuffled = inside.flatten(2)[:, :, order].view_as(inside)

    def contrast(mask: torch.Tensor) -> torch.Tensor:
        mean_in = (images * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)
        mean_out = (images * ~mask).sum((2, 3)) / (~mask).sum((2, 3)).clamp(min=1)
        return (mean_in - mean_out).abs().amax(1)[enough]

    assert enough.sum() > 8
    assert contrast(inside).median() > 5 * contrast(shuffled).median()
