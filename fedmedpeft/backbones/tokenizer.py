"""Words to tokens, for backbones that have a text tower."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import tokenizers
import torch
from transformers import BertTokenizer, CLIPTokenizer, RobertaTokenizer

from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
"""What a checkpoint may hold of its tokenizer."""

Kind = Literal["clip", "bert", "roberta"]


class _Kind(NamedTuple):
    """What is told by the kind of a tokenizer: its class, its files without tokenizer.json, its special tokens."""

    published: type[BertTokenizer] | type[CLIPTokenizer] | type[RobertaTokenizer]
    files: frozenset[str]
    start: str
    end: str
    padding: str


_KINDS: dict[Kind, _Kind] = {
    "clip": _Kind(
        CLIPTokenizer, frozenset({"vocab.json", "merges.txt"}), "<|startoftext|>", "<|endoftext|>", "<|endoftext|>"
    ),
    "bert": _Kind(BertTokenizer, frozenset({"vocab.txt"}), "[CLS]", "[SEP]", "[PAD]"),
    "roberta": _Kind(RobertaTokenizer, frozenset({"vocab.json", "merges.txt"}), "<s>", "</s>", "<pad>"),
}
# What it makes of this tells tokenizers of one vocabulary apart: case, accents, spaces, numbers.
_PROBE = "Is the Heart's SIZE normal? Café-au-lait, 5.2 cm"


class Tokenizer:
    """Byte-pair encoding (CLIP, RoBERTa) or word pieces (BERT).

    Args:
        backend: turns words into tokens.
        kind: whose it is.

    Attributes:
        start, end: the tokens around every text.
        separator: the word that stands for the end token within a text.
        padding: the token behind shorter texts.
        size: one above the largest token.
        hash: SHA-256 of the vocabulary and of how words are found; other words in other rows are another backbone.

    Raises:
        ConfigError: the vocabulary lacks a special token: it is a tokenizer of another kind.
    """

    def __init__(self, backend: tokenizers.Tokenizer, kind: Kind) -> None:
        self._backend = backend
        # Some files say how long a text is; here the backbone does.
        backend.no_truncation()
        backend.no_padding()
        words, vocabulary = _KINDS[kind], backend.get_vocab(with_added_tokens=True)
        for word in (words.start, words.end, words.padding):
            if word not in vocabulary:
                raise ConfigError(
                    f"The backbone's tokenizer has no token '{word}', so it is none of a {kind} text tower. Put the "
                    "tokenizer there that the text tower was published with."
                )
        self.start, self.end, self.padding = vocabulary[words.start], vocabulary[words.end], vocabulary[words.padding]
        self.separator = words.end
        self.size = 1 + max(vocabulary.values())
        told: object = sorted(vocabulary.items())
        if kind != "clip":
            told = [told, self.tokens(_PROBE)]
        self.hash = hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @classmethod
    def read(cls, directory: Path, kind: Kind = "clip") -> Tokenizer | None:
        """The tokenizer in a checkpoint's directory; None where there is none.

        Raises:
            ConfigError: its files cannot be read, or are of another kind.
        """
        present = {name for name in TOKENIZER_FILES if (directory / name).is_file()}
        # Without these transformers would quietly make up a vocabulary of three tokens.
        if "tokenizer.json" not in present and not _KINDS[kind].files <= present:
            return None
        try:
            if (
                kind != "clip" and "tokenizer.json" in present
            ):  # as it was published, whatever its class would make of it
                return cls(tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json")), kind)
            published = _KINDS[kind].published.from_pretrained(str(directory), local_files_only=True)
            return cls(published.backend_tokenizer, kind)
        except ConfigError:
            raise
        except Exception as error:  # tokenizers raises bare Exception where a file is damaged
            files = " and ".join(sorted(_KINDS[kind].files, reverse=True))
            # The error's own text may hold local paths, and this sentence may travel.
            raise ConfigError(
                f"The backbone's tokenizer (tokenizer.json, or {files}) cannot be read. Fetch it anew."
            ) from error

    def check(self, vocabulary: int, padding: int | None = None) -> None:
        """Raise ConfigError where a text tower with so many words, and this padding token, is not its own."""
        if self.size > vocabulary:
            raise ConfigError(
                f"The backbone's tokenizer has {self.size} tokens, its text tower only {vocabulary}. Put the tokenizer "
                "there that the checkpoint was published with."
            )
        if padding is not None and padding != self.padding:
            raise ConfigError(
                f"The backbone's tokenizer pads with token {self.padding}, its text tower expects {padding}. Put the "
                "tokenizer there that the checkpoint was published with."
            )

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text`` alone, without those around it."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode(self, texts: Sequence[str], length: int) -> Text:
        """Tokens [N, T] of ``texts`` with start and end around them, padded to the longest and cut to ``length``.

        Raises:
            ValueError: ``length`` has no room for start and end.
        """
        if length < 2:
            raise ValueError(f"length={length}: start and end alone are two tokens")
        rows = [[self.start, *self.tokens(text)[: length - 2], self.end] for text in texts]
        longest = max(map(len, rows), default=0)
        ids = torch.full((len(rows), longest), self.padding, dtype=torch.int64)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
        return Text(ids, mask)

    def text(self, tokens: Sequence[int]) -> str:
        """What ``tokens`` say, up to the first end token; special ones and those that it does not know are left out."""
        said = list(tokens)
        said = said[: said.index(self.end)] if self.end in said else said
        return str(self._backend.decode(said, skip_special_tokens=True))
