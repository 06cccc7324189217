"""METERs of two blocks in each network, for 32 px images and texts of up to 20 tokens. Random weights: for tests only.

The widths of their networks differ, so that none is taken for another: 16 (image), 24 (text), 32 (fusion).
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer, RobertaConfig, RobertaTokenizer

_WORDS = (
    "is there a the what which where in of this image normal abnormal yes no "
    "lung heart brain liver tumour fluid mass left right pneumonia nodule"
)
WORDS = tuple(_WORDS.split())
"""Words of one token each; others are spelt."""

TEXT_LENGTH = 20


def save_text_tower(directory: Path, **changes: Any) -> Path:
    """A BERT with a tokenizer for it."""
    tokenizer = tiny_bert_tokenizer()
    tokenizer.save_pretrained(directory)
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 32,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(3)
    model = BertModel(BertConfig(**sizes | changes))
    for parameter in model.parameters():  # away from the flat start, so that features differ between texts
        nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)
    return directory


def tiny_bert_tokenizer() -> BertTokenizer:
    """Word pieces: letters, digits, points and :data:`WORDS`."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    pieces += [letter for letter in f"{letters}.,-?;:()'" if letter not in pieces]
    pieces += [f"##{letter}" for letter in letters]
    return BertTokenizer(vocab={piece: row for row, piece in enumerate(dict.fromkeys(pieces))})


def save_roberta(directory: Path, **sizes: Any) -> Path:
    """A RoBERTa's configuration and tokenizer, without weights: what stands beside a checkpoint of METER."""
    letters = [
        "\u0120",
        *string.ascii_lowercase,
        *string.digits,
        *".,-?",
    ]  # the first is a space, as byte pairs have it
    words = ["is", "in", "\u0120is", "\u0120in"]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, *words]
    merges = [("i", "s"), ("i", "n"), ("\u0120", "is"), ("\u0120", "in")]
    RobertaTokenizer(vocab={piece: row for row, piece in enumerate(pieces)}, merges=merges).save_pretrained(directory)
    RobertaConfig(**{"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5} | sizes).save_pretrained(
        directory
    )
    return directory


def meter_text(vision: Path, text: Path, **changes: int | str) -> str:
    """The backbone as a configuration writes it."""
    options = {"hidden_size": 32, "depth": 2, "heads": 2, "ffn_size": 64, "text_length": TEXT_LENGTH} | changes
    return f"meter(vision='{vision}', text='{text}', {', '.join(f'{key}={value}' for key, value in options.items())})"
