from __future__ import annotations

import math

import pytest
import torch

from pretraining.objective import BANDS, DESCRIPTION, THUMBNAIL, Pretext, build_backbone, describe


def _pretext(categories: int = 7) -> Pretext:
    torch.manual_seed(0)
    return Pretext(build_backbone(width=64, depth=1), categories)


@pytest.mark.parametrize("resolution", [32, 64])
def test_heads_have_their_shapes_at_any_resolution(resolution: int) -> None:
    logits, description, masks = _pretext()(torch.zeros(2, 3, resolution, resolution))

    assert logits.shape == (2, 7)
    assert description.shape == (2, DESCRIPTION)
    assert masks.shape == (2, 2, resolution, resolution)


def test_each_patch_token_draws_its_own_patch() -> None:
    pretext = _pretext()
    features = torch.zeros(1, 17, 64)
    features[0, 1 + 6] = 1.0  # row 1, column 2 of the 4 x 4 grid
    pretext.backbone.forward = lambda *_, **__: type("Output", (), {"last_hidden_state": features})()  # type: ignore[method-assign,assignment]
    torch.nn.init.ones_(pretext.masks.weight)
    torch.nn.init.zeros_(pretext.masks.bias)
    masks = pretext(torch.zeros(1, 3, 32, 32))[2]

    assert (masks[0, :, 8:16, 16:24] > 0).all()
    assert masks.count_nonzero() == 2 * 64


def test_untrained_losses_are_those_of_a_guess() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 32, 32, generator=generator)
    masks = torch.rand(64, 2, 32, 32, generator=generator)
    losses = _pretext().losses(images, masks, torch.arange(64) % 7)

    assert losses.category.item() == pytest.approx(math.log(7), abs=0.6)
    assert 0.8 < losses.description.item() < 3
    assert losses.masks.item() > 0.9


def test_the_description_knows_colours_by_place_and_coarseness() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.05 * torch.randn(16, 3, 32, 32, generator=generator)
    images[0, 1, :8, 8:16] += 3.0  # green in row 0, column 1
    wave = torch.sin(2 * math.pi * 3 * torch.arange(32) / 32)
    images[1] += wave
    description = describe(images)
    thumbnail = description[:, : 3 * THUMBNAIL**2].view(16, 3, THUMBNAIL, THUMBNAIL)
    bands = description[:, 3 * THUMBNAIL**2 :]

    assert thumbnail[0].argmax() == THUMBNAIL**2 + 1
    assert bands.shape[1] == len(BANDS) - 1
    assert bands[:, 1].argmax() == 1  # 3 cycles lie in the octave from 2 to 4
    assert bands[1].argmax() == 1
    torch.testing.assert_close(description.mean(0), torch.zeros(DESCRIPTION), atol=1e-4, rtol=0)
