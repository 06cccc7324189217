"""What the backbone is asked: which formula made the image, roughly what it looks like, and where the object is."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

PATCH = 8
THUMBNAIL = 4
BANDS = (1, 2, 4, 8, 16)  # edges of the frequency bands, cycles per image
DESCRIPTION = 3 * THUMBNAIL**2 + len(BANDS) - 1


def build_backbone(size: int = 64, width: int = 192, depth: int = 8) -> ViTModel:
    """A ViT with patches of 8 px and heads of 64; without dropout, which such short training does not need."""
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        patch_size=PATCH,
        image_size=size,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    backbone = ViTModel(config, add_pooling_layer=False)
    # On CPUs the backward pass of the fused attention takes longer than all the rest of a step for so few tokens.
    backbone.set_attn_implementation("eager")
    return backbone


def describe(images: Tensor) -> Tensor:
    """What a category does not say: colours by place and coarseness, (batch, DESCRIPTION), standardised over the batch.

    A 4 x 4 RGB thumbnail and the logarithm of the energy in octaves of spatial frequency.
    """
    thumbnail = functional.adaptive_avg_pool2d(images, THUMBNAIL).flatten(1)
    power = torch.fft.rfft2(images.mean(1)).abs().square() / images.shape[-1] ** 4
    fy = torch.fft.fftfreq(images.shape[-2], 1 / images.shape[-2])
    fx = torch.fft.rfftfreq(images.shape[-1], 1 / images.shape[-1])
    frequency = torch.hypot(fy[:, None], fx[None, :])
    bands = [(power * ((frequency >= low) & (frequency < high))).sum((1, 2)) for low, high in pairwise(BANDS)]
    description = torch.cat([thumbnail, torch.stack(bands, 1).add(1e-6).log()], 1)
    return (description - description.mean(0)) / (description.std(0) + 1e-3)


class Losses(NamedTuple):
    """Cross-entropy in nats; of description and masks the share of their variance that is not yet explained."""

    category: Tensor
    description: Tensor
    masks: Tensor


class Pretext(nn.Module):
    """The backbone under three linear heads.

    - category, from CLS: which formula made the image;
    - description, from CLS: the category alone teaches to ignore colour and place, which medical images need;
    - masks, from the patch tokens: where the object is and what its inside looks like, at every pixel. So dense a
      signal teaches fast, as in SegRCDB (Shinoda et al., ICCV 2023, arXiv 2309.17083).
    """

    def __init__(self, backbone: ViTModel, categories: int) -> None:
        super().__init__()
        width = backbone.config.hidden_size
        self.backbone = backbone
        self.category = nn.Linear(width, categories)
        self.description = nn.Linear(width, DESCRIPTION)
        self.masks = nn.Linear(width, 2 * PATCH**2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Category logits (batch, categories), description (batch, DESCRIPTION) and masks (batch, 2, side, side)."""
        # Any resolution that is a multiple of the patch: the position embeddings are interpolated to it.
        tokens = self.backbone(images, interpolate_pos_encoding=True).last_hidden_state
        side = (images.shape[-2], images.shape[-1])
        masks = functional.fold(self.masks(tokens[:, 1:]).mT.float(), side, PATCH, stride=PATCH)
        return self.category(tokens[:, 0]), self.description(tokens[:, 0]), masks

    def losses(self, images: Tensor, masks: Tensor, labels: Tensor) -> Losses:
        """Of images and masks as :func:`pretraining.colouring.colour` makes them, and labels (batch,)."""
        logits, description, drawn = self(images)
        return Losses(
            category=functional.cross_entropy(logits.float(), labels, label_smoothing=0.1),
            description=functional.mse_loss(description.float(), describe(images)),
            masks=functional.mse_loss(drawn, masks) / masks.var(),
        )
