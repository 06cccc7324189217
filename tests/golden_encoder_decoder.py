"""The reference values of MISS and MILE, and their encoder-decoder as one of ours, read as any checkpoint of theirs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertTokenizer

from fedmedpeft.backbones import load_backbone
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder
from fedmedpeft.text import Text

_TEXT_LENGTH = 12


@dataclass(frozen=True)
class GoldenEncoderDecoder:
    """One set of reference values: inputs and outputs by their names there, and the network with those weights."""

    backbone: EncoderDecoder
    values: dict[str, torch.Tensor]
    directory: Path

    @classmethod
    def read(cls, directory: Path, work: Path) -> GoldenEncoderDecoder:
        """``work``: where the BERT that the checkpoint names may be written."""
        config = json.loads((directory / "meta.json").read_text())["config"]
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(config["words"]))]
        BertTokenizer(vocab={word: row for row, word in enumerate(words)}).save_pretrained(work)
        BertConfig(
            vocab_size=len(words),
            hidden_size=config["h"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            intermediate_size=config["ff"],
            max_position_embeddings=config["maxpos"],
            pad_token_id=0,
        ).save_pretrained(work)
        name = (
            f"encoder-decoder(checkpoint='{directory / 'weights.safetensors'}', text='{work}', "
            f"vision_heads={config['vh']}, text_length={_TEXT_LENGTH})"
        )
        backbone = load_backbone(name)
        assert isinstance(backbone, EncoderDecoder)
        return cls(backbone, load_file(directory / "io.safetensors"), directory)

    @property
    def question(self) -> Text:
        return Text(self.values["in.question_ids"], self.values["in.question_mask"].bool())

    @property
    def answer(self) -> Text:
        return Text(self.values["in.answer_ids"], self.values["in.answer_mask"].bool())

    @property
    def candidates(self) -> Text:
        return Text(self.values["in.candidate_ids"], self.values["in.candidate_mask"].bool())

    def pixels(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return self.values["in.image"].to(dtype)

    def adapter(self, case: str) -> dict[str, torch.Tensor]:
        """What a case trains, without the beginning of its name that says so."""
        tensors = load_file(self.directory / f"adapter_{case}.safetensors")
        return {name.removeprefix("train."): t for name, t in tensors.items() if name.startswith("train.")}

    def close(self, key: str, found: torch.Tensor) -> None:
        """Assert that ``found`` is the value ``key``: to 1e-4 in float32 (gradients 1e-3), to 1e-8 in float64."""
        expected = self.values[key]
        if expected.dtype == torch.float64:
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
        elif ".grad." in f".{key}":
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
