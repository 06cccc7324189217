"""BERT's names of tensors, which RoBERTa and METER share, and what they are called here."""

from __future__ import annotations

_OUTSIDE = {
    "embeddings.word_embeddings": "embed.word",
    "embeddings.position_embeddings": "embed.position",
    "embeddings.token_type_embeddings": "embed.token_type",
    "embeddings.LayerNorm": "norm_pre",
}
_FFN = {"intermediate.dense": "ffn.ffn_in", "output.dense": "ffn.ffn_out", "output.LayerNorm": "ffn.norm"}


def _attention(theirs: str, ours: str) -> dict[str, str]:
    projections = {"self.query": "q", "self.key": "k", "self.value": "v", "output.dense": "o"}
    inside = {f"{theirs}.{name}": f"{ours}.attention.{role}" for name, role in projections.items()}
    return {**inside, f"{theirs}.output.LayerNorm": f"{ours}.norm"}


_INSIDE = {**_attention("attention", "attention"), **_attention("crossattention", "cross"), **_FFN}
_LANGUAGE_HEAD = {"cls.predictions.transform.dense": "dense", "cls.predictions.transform.LayerNorm": "norm"}
# As checkpoints converted from TensorFlow call them.
_PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

POOLER = "pooler."
"""Begins what stands on a published text tower and is not used here."""


def in_block(name: str) -> str | None:
    """``attention.self.query.weight`` -> ``attention.attention.q.weight``; None for what no block has."""
    module, _, parameter = name.rpartition(".")
    if module not in _INSIDE or parameter not in _PARAMETERS:
        return None
    return f"{_INSIDE[module]}.{_PARAMETERS[parameter]}"


def in_encoder(name: str) -> str | None:
    """``encoder.layer.3.output.dense.bias`` -> ``blocks.3.ffn.ffn_out.bias``; None for what no text tower has."""
    if name.startswith("encoder.layer."):
        index, _, rest = name.removeprefix("encoder.layer.").partition(".")
        inside = in_block(rest)
        return f"blocks.{index}.{inside}" if inside and index.isdigit() else None
    module, _, parameter = name.rpartition(".")
    if module not in _OUTSIDE or parameter not in _PARAMETERS:
        return None
    return f"{_OUTSIDE[module]}.{_PARAMETERS[parameter]}"


def in_language_head(name: str) -> str | None:
    """``cls.predictions.transform.dense.weight`` -> ``dense.weight``; None for what no language head has."""
    if name == "cls.predictions.bias":
        return "bias"
    module, _, parameter = name.rpartition(".")
    if module not in _LANGUAGE_HEAD or parameter not in _PARAMETERS:
        return None
    return f"{_LANGUAGE_HEAD[module]}.{_PARAMETERS[parameter]}"


def is_unused(name: str) -> bool:
    """Whether published text towers have it beside what is used here: counted positions, the pooler."""
    return name in _BUFFERS or name.startswith(POOLER)
