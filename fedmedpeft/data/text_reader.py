"""Questions and captions to tokens, and to the tokens of what is known about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text


class TextTokenizer(Protocol):
    """What turns texts into tokens.

    Attributes:
        separator: what stands between two sentences of one text.
    """

    separator: str

    def encode(self, texts: Sequence[str], length: int) -> Text:
        """Tokens of ``texts`` with the special ones around them, cut and padded to at most ``length``."""
        ...


class KnowledgeLinker(Protocol):
    """What finds the concepts of a text and says a sentence about each."""

    def knowledge(self, question: str, separator: str, /) -> str:
        """The sentences joined by ``separator``; empty where nothing is known."""
        ...


class TextReader:
    """Reads a site's texts for one backbone.

    Args:
        tokenizer: the backbone's.
        length: tokens of a text at most.
        linker: source of knowledge, or None.

    Raises:
        ConfigError: ``length`` is below 1.
    """

    def __init__(self, tokenizer: TextTokenizer, length: int, linker: KnowledgeLinker | None = None) -> None:
        if length < 1:
            raise ConfigError(f"A text length of {length} tokens leaves nothing to read. Set at least 1.")
        self._tokenizer, self._length, self._linker = tokenizer, length, linker

    def read(self, texts: Sequence[str]) -> tuple[Text, Text | None]:
        """Tokens of N texts, and of the knowledge about each, or None without a linker.

        Knowledge is as long as a text at most. Where nothing is known, only the special tokens are there.
        """
        if self._linker is None:
            return self._encode(texts), None
        separator = self._tokenizer.separator
        return self._encode(texts), self._encode([self._linker.knowledge(text, separator) for text in texts])

    def _encode(self, texts: Sequence[str]) -> Text:
        if not texts:  # Tokenizers need not know what to do with no text at all.
            return Text(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool))
        return self._tokenizer.encode(texts, self._length)
