"""Every registered method as it fits the tiny backbones of the tests, whose sizes some defaults do not divide."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fedmedpeft.components import parse_composition
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS
from fedmedpeft.text import Text

_TINY = {
    "peft:c3a": "peft:c3a(block_size=8)",
    "peft:fourierft": "peft:fourierft(n_frequency=40)",
    "peft:road": "peft:road(group_size=8)",
    "peft:shira": "peft:shira(r=2)",
    "peft:vblora": "peft:vblora(vector_length=8, num_vectors=16)",
    "peft:waveft": "peft:waveft(n_frequency=40)",
}

EVERY_METHOD = [_TINY.get(name, name) for name in METHODS.names()]

BACKBONES = {"vit": "tiny_backbone", "clip": "tiny_clip_pair", "resnet": "tiny_resnet", "meter": "tiny_meter"}
"""A fixture with the name of a backbone of each family; CLIP's has both towers."""

_IN_ANY = {"bitfit", "blocks", "full", "head", "ssf"}
_ONLY_IN = {
    "batchnorm": "resnet",
    "tsa": "resnet",
    "textual-prompts": "clip",
    "kpl": "meter",
    "m3ad": "meter",
    "sadapter": "meter",
}


def suits(backbone: str, method: str) -> bool:
    """Whether every method of a composition goes with a family; that the others are refused is tested too."""
    specs = parse_composition(method)
    names = [spec.name for spec in specs]
    if not all(_ONLY_IN.get(name, backbone) == backbone for name in names):
        return False
    if backbone != "meter" and any(spec.options.get("offset") for spec in specs):  # positions of words
        return False
    if backbone == "meter":  # whose image tower makes no feature that could be read otherwise
        return all(spec.options.get("form", "abstract") == "abstract" for spec in specs)
    return backbone != "resnet" or all(name in _IN_ANY or name in _ONLY_IN for name in names)


_PEFT_IN = {
    "clip": {"peft:lora"},
    "meter": {"peft:ia3", "peft:lily", "peft:ln_tuning", "peft:lora", "peft:unilora", "peft:vblora", "peft:vera"},
}
"""Hugging Face's types act alike in every transformer: elsewhere than in ViT only a few are tried, in METER those that
share something between places, which are of several widths there."""


def cases(methods: Iterable[str]) -> list[tuple[str, str]]:
    """Family and method."""
    return [(b, m) for m in methods for b in BACKBONES if suits(b, m) and _is_tried(b, m.partition("(")[0])]


def _is_tried(backbone: str, name: str) -> bool:
    return not name.startswith("peft:") or backbone not in _PEFT_IN or name in _PEFT_IN[backbone]


def texts(learner: Learner, count: int) -> tuple[Text, ...]:
    """What a learner reads beside so many images: questions of several lengths, where its backbone reads any."""
    if not learner.backbone.text_length:
        return ()
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 40, (count, 7), generator=generator)
    lengths = torch.tensor([7, 4, 6, 5]).repeat(count)[:count, None]
    mask = torch.arange(7) < lengths
    return (Text(ids.masked_fill(~mask, 0), mask),)
