"""Checkpoints of MISS and MILE (Chen et al., 2024), in this project's names.

One file of tensors: ``visual_encoder`` in timm's names, ``text_encoder`` and ``text_decoder`` in BERT's with a
``crossattention`` in every layer. Tied tensors are there twice, and position ids as buffers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from pydantic import ValidationError

from fedmedpeft.backbones.architecture import ViTArchitecture
from fedmedpeft.backbones.bert_names import in_encoder, in_language_head, is_unused
from fedmedpeft.backbones.timm_checkpoint import from_timm, timm_architecture
from fedmedpeft.components import ConfigError, explain

_VISION, _TEXT, _DECODER, _HEAD = "visual_encoder.", "text_encoder.", "text_decoder.bert.", "text_decoder."
_TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}


def image_tower(shapes: Mapping[str, torch.Size], heads: int, source: str) -> ViTArchitecture:
    """Sizes of the image tower.

    Args:
        shapes: of all tensors in the file.
        heads: of an attention, which no shape shows; 0: width / 64.
        source: begins every error.

    Raises:
        ConfigError: there is none, a part of it is missing, or ``heads`` does not divide its width.
    """
    tower = {
        name.removeprefix(_VISION): torch.empty(shape, device="meta")
        for name, shape in shapes.items()
        if name.startswith(_VISION)
    }
    if not tower:
        raise ConfigError(f"{source}: this is no checkpoint of MISS or MILE: no tensor begins with {_VISION}")
    try:
        return timm_architecture(tower, {"num_heads": heads} if heads else {})
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}. Set vision_heads to the heads of its image tower.") from None
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{source}: its image tower is incomplete ({error}). Fetch it again.") from None


def depths(shapes: Mapping[str, torch.Size], source: str) -> tuple[int, int]:
    """Layers of encoder and decoder. Raises ConfigError where one of them has none."""
    found = []
    for network in (_TEXT, _DECODER):
        layer = re.compile(rf"{re.escape(network)}encoder\.layer\.(\d+)\.")
        layers = {int(match[1]) for name in shapes if (match := layer.match(name))}
        if not layers:
            raise ConfigError(
                f"{source}: this is no checkpoint of MISS or MILE: no tensor begins with {network}encoder."
            )
        found.append(1 + max(layers))
    return found[0], found[1]


def from_miss(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Rename to :class:`fedmedpeft.backbones.encoder_decoder_family.EncoderDecoderModel`'s keys.

    What has no place there keeps its name, for whoever loads it to refuse.

    Raises:
        ConfigError: tensors that must be tied differ, or the image tower is no plain ViT.
    """
    for tied, other in _TIED.items():
        if tied in tensors and other in tensors and not torch.equal(tensors[tied], tensors[other]):
            raise ConfigError(f"{source}: '{tied}' is not '{other}', and in MISS and MILE they are one tensor.")
    tower = {name.removeprefix(_VISION): tensor for name, tensor in tensors.items() if name.startswith(_VISION)}
    renamed = {f"vision.{name}": tensor for name, tensor in from_timm(tower).items()}
    for name, tensor in tensors.items():
        if not name.startswith(_VISION) and name not in _TIED and not is_unused(_inside(name)):
            renamed[_own_name(name)] = tensor
    return renamed


def _inside(name: str) -> str:
    """Without the network's name."""
    for network in (_TEXT, _DECODER, _HEAD):
        if name.startswith(network):
            return name.removeprefix(network)
    return name


def _own_name(name: str) -> str:
    inside = _inside(name)
    for network, own in ((_TEXT, "text"), (_DECODER, "decoder")):
        if name.startswith(network):
            found = in_encoder(inside)
            return f"{own}.{found}" if found else name
    found = in_language_head(inside) if name.startswith(_HEAD) else None
    return f"head.{found}" if found else name
