"""Words to tokens, for backbones that have a text tower."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from transformers import CLIPTokenizer

from fedmedpeft.components import ConfigError

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
"""What a checkpoint may hold of its tokenizer."""


class Tokenizer:
    """CLIP's byte-pair encoding.

    Attributes:
        start, end: the tokens around every text.
        size: one above the largest token.
        hash: SHA-256 of the vocabulary; other words in other rows are another backbone.
    """

    def __init__(self, published: CLIPTokenizer) -> None:
        self._published = published
        vocabulary: dict[str, int] = published.get_vocab()
        self.start, self.end = int(published.bos_token_id), int(published.eos_token_id)
        self.size = 1 + max(vocabulary.values())
        self.hash = hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()

    @classmethod
    def read(cls, directory: Path) -> Tokenizer | None:
        """The tokenizer in a checkpoint's directory; None where there is none.

        Raises:
            ConfigError: its files cannot be read.
        """
        present = {name for name in TOKENIZER_FILES if (directory / name).is_file()}
        # Without these transformers would quietly make up a vocabulary of three tokens.
        if "tokenizer.json" not in present and not {"vocab.json", "merges.txt"} <= present:
            return None
        try:
            return cls(CLIPTokenizer.from_pretrained(str(directory), local_files_only=True))
        except Exception as error:  # tokenizers raises bare Exception where a file is damaged
            # The error's own text may hold local paths, and this sentence may travel.
            raise ConfigError(
                "The backbone's tokenizer (tokenizer.json, or vocab.json and merges.txt) cannot be read. Fetch it anew."
            ) from error

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text`` alone, without those around it."""
        tokens: list[int] = self._published(text, add_special_tokens=False)["input_ids"]
        return tokens
