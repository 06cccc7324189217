from __future__ import annotations

import pytest
import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.data.text_reader import TextReader
from tests.fedmedpeft.data.words import Words


class Dictionary:
    def knowledge(self, question: str, separator: str) -> str:
        return f"a mass is a lump {separator} a cyst is a sac" if "mass" in question else ""


def test_texts_are_read_to_the_length_and_knowledge_only_with_a_linker() -> None:
    text, knowledge = TextReader(Words(), 3).read(["is there a mass", "why"])
    assert text.ids.shape == (2, 3)
    assert text.mask.tolist() == [[True] * 3, [True, False, False]]
    assert knowledge is None


def test_each_question_gets_its_own_knowledge_with_the_separator_of_the_tokenizer() -> None:
    words = Words()
    _, knowledge = TextReader(words, 12, Dictionary()).read(["is there a mass", "why"])
    assert knowledge is not None
    assert words.seen[-1] == ["a mass is a lump | a cyst is a sac", ""]
    assert knowledge.mask.sum(1).tolist() == [11, 0]


def test_no_texts_at_all_are_no_rows() -> None:
    text, knowledge = TextReader(Words(), 3, Dictionary()).read([])
    assert text.ids.shape == (0, 0)
    assert (text.ids.dtype, text.mask.dtype) == (torch.int64, torch.bool)
    assert knowledge is not None
    assert len(knowledge.ids) == 0


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="length of 0"):
        TextReader(Words(), 0)
