"""Checkpoints of METER (Dou et al., CVPR 2022) and of M3AE (Chen et al., MICCAI 2022), which renames its parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import torch
from pydantic import ValidationError

from fedmedpeft.backbones.architecture import ClipArchitecture
from fedmedpeft.backbones.bert_names import in_block, in_encoder, is_unused
from fedmedpeft.components import ConfigError, explain

T = TypeVar("T")

_M3AE = {
    "vision_encoder": "vit_model",
    "language_encoder": "text_transformer",
    "multi_modal_language_proj": "cross_modal_text_transform",
    "multi_modal_vision_proj": "cross_modal_image_transform",
    "modality_type_embeddings": "token_type_embeddings",
    "multi_modal_language_layers": "cross_modal_text_layers",
    "multi_modal_vision_layers": "cross_modal_image_layers",
    "multi_modal_language_pooler": "cross_modal_text_pooler",
    "multi_modal_vision_pooler": "cross_modal_image_pooler",
}
_HEADS = {
    *("mlm_score", "itm_score", "vqa_classifier", "nlvr2_classifier", "snli_classifier", "cls_classifier"),
    *("rank_output", "mlm_head", "mim_head", "itm_head", "vqa_head", "cls_head", "irtr_head"),
}
# What CLIP's text tower left beside the image tower.
_LEFTOVERS = ("positional_embedding", "ln_final.", "token_embedding.")
_IMAGE_OUTSIDE = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    **{f"ln_pre.{kind}": f"pre_layrnorm.{kind}" for kind in ("weight", "bias")},
    **{f"ln_post.{kind}": f"post_layernorm.{kind}" for kind in ("weight", "bias")},
}
_IMAGE_INSIDE = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)")
_LAYER = re.compile(r"cross_modal_(text|image)_layers\.(\d+)\.(.+)")
_AROUND = re.compile(r"cross_modal_(text|image)_(transform|pooler\.dense)\.(weight|bias)")
_TYPES = "token_type_embeddings.weight"


class FusionSizes(NamedTuple):
    """What the shapes of a checkpoint tell of its fusion layers."""

    hidden_size: int
    depth: int
    ffn_size: int


def as_meter(stored: Mapping[str, T], source: str) -> dict[str, T]:
    """What a file holds (tensors, or their shapes) by METER's names, whichever of the two it is.

    Raises:
        ConfigError: it is neither, or a METER whose image tower is a Swin transformer.
    """
    kinds = {name.partition(".")[0] for name in stored}
    if "vision_encoder" not in kinds and "vit_model" not in kinds:
        raise ConfigError(
            f"{source}: this is no checkpoint of METER or M3AE: no tensor begins with vit_model. or vision_encoder."
        )
    found = {}
    for name, what in stored.items():
        first, dot, rest = name.partition(".")
        found[f"{_M3AE.get(first, first)}{dot}{rest}"] = what
    if any(name.startswith("vit_model.layers.") for name in found):
        raise ConfigError(f"{source}: its image tower is a Swin transformer, and only CLIP's is read. Choose another.")
    return found


def unused_heads(names: Iterable[str]) -> tuple[str, ...]:
    """The tasks' heads among METER's names: a task here brings its own."""
    return tuple(sorted({first for name in names if (first := name.partition(".")[0]) in _HEADS}))


def image_sizes(shapes: Mapping[str, torch.Size], heads: int, source: str) -> ClipArchitecture:
    """Sizes of the image tower, with the blocks that are there. ``heads``, which no shape shows: 0 for width / 64.

    Args:
        shapes: by METER's names.

    Raises:
        ConfigError: the tensors that show them are missing, or the sizes do not fit each other.
    """
    visual = "vit_model.visual."
    width, _, patch, _ = _shape(shapes, f"{visual}conv1.weight", 4, source)
    positions, _ = _shape(shapes, f"{visual}positional_embedding", 2, source)
    side = round((positions - 1) ** 0.5)
    blocks = [int(match[1]) for name in shapes if (match := _RESBLOCK.fullmatch(name.removeprefix(visual)))]
    ffn = _shape(shapes, f"{visual}transformer.resblocks.0.mlp.c_fc.weight", 2, source)[0]
    try:
        return ClipArchitecture(
            hidden_size=width,
            depth=1 + max(blocks, default=-1),
            heads=heads or max(1, width // 64),
            ffn_size=ffn,
            patch_size=patch,
            image_size=side * patch,
            layer_norm_eps=1e-5,
        )
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error)}. Set vision_heads to the heads of its image tower.") from None


def fusion_sizes(shapes: Mapping[str, torch.Size], source: str) -> FusionSizes:
    """Sizes of the fusion layers, by METER's names. Raises ConfigError where the tensors that show them are missing."""
    width = _shape(shapes, "cross_modal_text_transform.weight", 2, source)[0]
    ffn = _shape(shapes, "cross_modal_text_layers.0.intermediate.dense.weight", 2, source)[0]
    return FusionSizes(width, 1 + max(int(match[2]) for name in shapes if (match := _LAYER.fullmatch(name))), ffn)


def converted(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """From METER's names to those of :class:`fedmedpeft.backbones.meter_family.MeterModel`.

    Heads and leftovers are dropped; what is unknown keeps its name.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if first in _HEADS:
            continue
        if first == "vit_model":
            found |= _of_image(rest, tensor)
        elif first == "text_transformer":
            found |= {} if is_unused(rest) else {_or(name, "text.", in_encoder(rest)): tensor}
        elif name == _TYPES:
            # NLVR2 adds a third row, for a second image.
            found["fusion.type_embed.weight"] = tensor[:2]
        else:
            found[_of_fusion(name)] = tensor
    return found


def _of_image(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if name.startswith(_LEFTOVERS):
        return {}
    inside = name.removeprefix("visual.")
    if inside in _IMAGE_OUTSIDE:
        return {f"vision.{_IMAGE_OUTSIDE[inside]}": tensor}
    match = _RESBLOCK.fullmatch(inside)
    if match and match[2] == "attn.in_proj" and len(tensor) % 3 == 0:
        pieces = zip("qkv", tensor.chunk(3), strict=True)
        return {f"vision.encoder.layers.{match[1]}.self_attn.{role}_proj.{match[3]}": piece for role, piece in pieces}
    if match and match[2] in _IMAGE_INSIDE:
        return {f"vision.encoder.layers.{match[1]}.{_IMAGE_INSIDE[match[2]]}.{match[3]}": tensor}
    return {f"vit_model.{name}": tensor}


def _of_fusion(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    if layer:
        return _or(name, f"fusion.layers.{layer[2]}.{layer[1]}.", in_block(layer[3]))
    around = _AROUND.fullmatch(name)
    return f"fusion.{around[1]}_{around[2].removesuffix('.dense')}.{around[3]}" if around else name


def _or(name: str, prefix: str, known: str | None) -> str:
    return name if known is None else prefix + known


def _shape(shapes: Mapping[str, torch.Size], name: str, dimensions: int, source: str) -> torch.Size:
    if name not in shapes or len(shapes[name]) != dimensions:
        raise ConfigError(f"{source}: tensor '{name}' is missing or of another shape. Is the file complete?")
    return shapes[name]
