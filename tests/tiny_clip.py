"""CLIPs of two blocks for 32 px images, as Hugging Face saves them. Random weights: for tests only."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

WORDS = ("a", "photo", "of", "the", "benign", "malignant", "tumour")
"""Words of one token each; others are spelt."""

_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 8,
    "image_size": 32,
}


def save_clip(directory: Path) -> Path:
    """A vision tower with its projection to 12."""
    torch.manual_seed(1)
    return _save(CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION, projection_dim=12)), directory)


def save_clip_pair(directory: Path) -> Path:
    """Both towers, texts of up to 24 tokens, and a tokenizer for them."""
    tokenizer = tiny_tokenizer()
    text = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 24,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    torch.manual_seed(2)
    tokenizer.save_pretrained(directory)
    return _save(CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)), directory)


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair encoding with a vocabulary of letters and :data:`WORDS`."""
    letters = string.ascii_lowercase + string.digits + ".,-"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for right in rest:
            merges += [(left, right)] if (left, right) not in merges else []
            left += right
            pieces += [left] if left not in pieces else []
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: row for row, piece in enumerate(pieces)}, merges=merges)


def _save(model: nn.Module, directory: Path) -> Path:
    for name, parameter in model.named_parameters():
        if not name.endswith("logit_scale"):  # away from the flat start, so that features differ between images
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)  # type: ignore[operator]
    mean, std = [0.45, 0.5, 0.55], [0.25, 0.25, 0.3]
    (directory / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    return directory
