"""A tokenizer for tests: one token a word."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedmedpeft.text import Text


class Words:
    """The token of a word is the sum of its characters. ``seen``: what it was asked to read."""

    separator = "|"

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def encode(self, texts: Sequence[str], length: int) -> Text:
        self.seen.append(list(texts))
        lists = [[sum(map(ord, word)) for word in text.split()][:length] for text in texts]
        longest = max(map(len, lists), default=0)
        ids = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in lists], dtype=torch.int64)
        return Text(ids.reshape(len(texts), longest), ids.reshape(len(texts), longest) > 0)
