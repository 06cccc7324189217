from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data.source import ImageTable
from fedmedpeft.tasks.reading import check_reading, text_reader

_WORDS = ("what is in the image", "is there a mass")


@dataclass
class _Source:
    """A table and nothing else."""

    table: ImageTable
    name: str = "mine"
    synthetic: bool = True
    description: str = ""


def _source(**columns: tuple[str, ...]) -> _Source:
    return _Source(ImageTable(("1", "2"), np.array([0, 1]), ("a", "b"), **columns))  # type: ignore[arg-type]


_IMAGES, _CAPTIONS = _source(), _source(texts=_WORDS)
_QUESTIONS = _source(texts=_WORDS, answers=("lung", "no"))


@pytest.mark.parametrize(
    ("task", "knowledge", "source", "backbone", "says"),
    [
        ("classification", "", _IMAGES, "vit", ""),
        ("classification", "", _CAPTIONS, "meter", ""),
        ("classification", "open", _CAPTIONS, "meter", ""),
        ("vqa", "", _QUESTIONS, "meter", ""),
        (
            "classification",
            "",
            _IMAGES,
            "meter",
            "'mine' has images only, and backbone 'meter.*reads an image and a text",
        ),
        ("classification", "", _CAPTIONS, "vit", "'mine' has texts, and backbone '.*vit.* reads images only"),
        ("classification", "open", _IMAGES, "vit", "knowledge='open'.*reads images only"),
        ("classification", "", _QUESTIONS, "meter", "'mine' has questions with answers"),
        ("vqa", "", _CAPTIONS, "meter", "'mine' has texts without answers"),
        ("vqa", "", _IMAGES, "meter", "'mine' has no questions"),
        ("vqa", "", _QUESTIONS, "vit", "task='vqa' reads a text.*reads images only"),
    ],
)
def test_what_goes_together(
    tiny_meter: str, tiny_backbone: Path, task: str, knowledge: str, source: _Source, backbone: str, says: str
) -> None:
    config = RunConfig(task=task, knowledge=knowledge)
    loaded = load_backbone({"vit": str(tiny_backbone), "meter": tiny_meter}[backbone])
    if not says:
        check_reading(config, source, loaded)  # type: ignore[arg-type]
        return
    with pytest.raises(ConfigError, match=says):
        check_reading(config, source, loaded)  # type: ignore[arg-type]


def test_texts_are_read_with_the_backbones_own_tokens(tiny_meter: str, tiny_backbone: Path) -> None:
    meter = load_backbone(tiny_meter)
    reader = text_reader(RunConfig(), meter)
    assert reader is not None
    assert meter.tokenizer is not None
    text, knowledge = reader.read(_WORDS)
    assert knowledge is None
    assert text.ids.shape[1] <= meter.text_length
    assert meter.tokenizer.text(text.ids[1].tolist()) == _WORDS[1]
    assert text_reader(RunConfig(), load_backbone(str(tiny_backbone))) is None
    meter.tokenizer = None
    with pytest.raises(ConfigError, match="has no tokenizer beside it"):
        text_reader(RunConfig(), meter)
