"""A checkpoint as MISS and MILE save theirs, of two blocks in each network, for 32 px images. Random weights."""

from __future__ import annotations

from pathlib import Path

import torch

IMAGE, WORDS, FFN = 16, 24, 48
"""Widths: of the image tower, of the text networks (those of the tiny BERT), of the latter's feed-forward networks."""


def miss_tensors(
    vocabulary: int, positions: int = 32, patches: int = 16, image: int = IMAGE
) -> dict[str, torch.Tensor]:
    """All of them, under the published names.

    Args:
        vocabulary: words of the BERT; two more are added here.
        positions: of its texts.
        patches: positions of the image tower beside the class token.
        image: width of the image tower.
    """
    generator = torch.Generator().manual_seed(5)
    shapes = _vision(patches, image)
    for network, context in (("text_encoder.", image), ("text_decoder.bert.", WORDS)):
        shapes |= {f"{network}{name}": shape for name, shape in _bert(vocabulary + 2, positions, context).items()}
    predictions = "text_decoder.cls.predictions."
    shapes |= {f"{predictions}{name}": shape for name, shape in _linear("transform.dense", WORDS, WORDS).items()}
    shapes |= {f"{predictions}{name}": shape for name, shape in _norm("transform.LayerNorm", WORDS).items()}
    shapes[f"{predictions}bias"] = (vocabulary + 2,)
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors[f"{predictions}decoder.weight"] = tensors["text_decoder.bert.embeddings.word_embeddings.weight"].clone()
    tensors[f"{predictions}decoder.bias"] = tensors[f"{predictions}bias"].clone()
    for network in ("text_encoder.", "text_decoder.bert."):
        tensors[f"{network}embeddings.position_ids"] = torch.arange(positions)[None]
    return tensors


def save_miss(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """As the authors' training script saves them."""
    torch.save({"model": tensors, "epoch": 3}, path)
    return path


def _vision(patches: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + patches, width),
        "patch_embed.proj.weight": (width, 3, 8, 8),
        "patch_embed.proj.bias": (width,),
        **_norm("norm", width),
    }
    for block in ("blocks.0.", "blocks.1."):
        shapes |= _norm(f"{block}norm1", width) | _norm(f"{block}norm2", width)
        shapes |= _linear(f"{block}attn.qkv", width, 3 * width) | _linear(f"{block}attn.proj", width, width)
        shapes |= _linear(f"{block}mlp.fc1", width, 4 * width) | _linear(f"{block}mlp.fc2", 4 * width, width)
    return {f"visual_encoder.{name}": shape for name, shape in shapes.items()}


def _bert(vocabulary: int, positions: int, context: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, WORDS),
        "embeddings.position_embeddings.weight": (positions, WORDS),
        **_norm("embeddings.LayerNorm", WORDS),
    }
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        for attention, read in (("attention", WORDS), ("crossattention", context)):
            shapes |= _linear(f"{layer}{attention}.self.query", WORDS, WORDS)
            shapes |= _linear(f"{layer}{attention}.self.key", read, WORDS)
            shapes |= _linear(f"{layer}{attention}.self.value", read, WORDS)
            shapes |= _linear(f"{layer}{attention}.output.dense", WORDS, WORDS)
            shapes |= _norm(f"{layer}{attention}.output.LayerNorm", WORDS)
        shapes |= _linear(f"{layer}intermediate.dense", WORDS, FFN) | _linear(f"{layer}output.dense", FFN, WORDS)
        shapes |= _norm(f"{layer}output.LayerNorm", WORDS)
    return shapes


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
