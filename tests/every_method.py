"""Every registered method as it fits the tiny backbones of the tests, whose sizes some defaults do not divide."""

from __future__ import annotations

from collections.abc import Iterable

from fedmedpeft.components import parse_composition
from fedmedpeft.methods import METHODS

_TINY = {
    "peft:c3a": "peft:c3a(block_size=8)",
    "peft:fourierft": "peft:fourierft(n_frequency=40)",
    "peft:road": "peft:road(group_size=8)",
    "peft:shira": "peft:shira(r=2)",
    "peft:vblora": "peft:vblora(vector_length=8, num_vectors=16)",
    "peft:waveft": "peft:waveft(n_frequency=40)",
}

EVERY_METHOD = [_TINY.get(name, name) for name in METHODS.names()]

BACKBONES = {"vit": "tiny_backbone", "clip": "tiny_clip_pair", "resnet": "tiny_resnet"}
"""A fixture with a backbone of each family; CLIP's has both towers."""

_IN_ANY = {"bitfit", "blocks", "full", "head", "ssf"}
_ONLY_IN = {"batchnorm": "resnet", "tsa": "resnet", "textual-prompts": "clip"}


def suits(backbone: str, method: str) -> bool:
    """Whether every method of a composition goes with a family; that the others are refused is tested too."""
    names = [spec.name for spec in parse_composition(method)]
    return all(_ONLY_IN.get(name, backbone) == backbone for name in names) and (
        backbone != "resnet" or all(name in _IN_ANY or name in _ONLY_IN for name in names)
    )


def cases(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Family and method; of Hugging Face's types, which act on the same places in every transformer, one in CLIP."""
    return [
        (backbone, method)
        for method in methods
        for backbone in BACKBONES
        if suits(backbone, method) and (backbone == "vit" or method == "peft:lora" or not method.startswith("peft:"))
    ]
