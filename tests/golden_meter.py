"""The reference values of METER and M3AE: their checkpoint loaded as a site would load it, and their heads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import gelu

from fedmedpeft.backbones import load_backbone
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.text import Text
from tests.tiny_meter import save_roberta


def write_checkpoint(weights: dict[str, torch.Tensor], path: Path) -> Path:
    """As Lightning writes it, but for what is no tensor or number."""
    torch.save({"epoch": 3, "state_dict": weights, "optimizer_states": [{"state": {}}], "hyper_parameters": {}}, path)
    return path


@dataclass(frozen=True)
class GoldenMeter:
    """One set of reference values.

    Attributes:
        weights: by their published names.
        values: inputs and outputs, by their names there.
        backbone_text: how a configuration writes the backbone.
    """

    weights: dict[str, torch.Tensor]
    values: dict[str, torch.Tensor]
    backbone_text: str

    @classmethod
    def read(cls, golden: Path, directory: Path) -> GoldenMeter:
        """The values in ``golden``; the checkpoint and its text tower's files are written to ``directory``."""
        config: dict[str, Any] = json.loads((golden / "meta.json").read_text())["config"]
        weights = load_file(golden / "weights.safetensors")
        embeddings = next(name for name in weights if name.endswith("position_embeddings.weight"))
        save_roberta(
            directory,
            hidden_size=config["txt"],
            num_hidden_layers=config["txt_layers"],
            num_attention_heads=config["txt_h"],
            intermediate_size=config["txt_ff"],
            max_position_embeddings=len(weights[embeddings]),
            vocab_size=config["vocab"],
        )
        checkpoint = write_checkpoint(weights, directory / "golden.ckpt")
        text = (
            f"meter(checkpoint='{checkpoint}', text='{directory}', heads={config['heads']}, "
            f"vision_heads={config['vit_h']}, text_length={config['L']})"
        )
        return cls(weights, load_file(golden / "io.safetensors"), text)

    def load(self, image_size: int = 0) -> Meter:
        backbone = load_backbone(self.backbone_text, image_size=image_size)
        assert isinstance(backbone, Meter)
        return backbone

    @property
    def text(self) -> Text:
        return Text(self.values["in.text_ids"], self.values["in.text_masks"].bool())

    def classifier(self, name: str, dtype: torch.dtype) -> nn.Sequential:
        """Of VQA, or of M3AE's classification."""
        wide, classes = self.weights[f"{name}.0.weight"].shape[0], self.weights[f"{name}.3.weight"].shape[0]
        head = nn.Sequential(nn.Linear(wide, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, classes))
        head.load_state_dict({key: self.weights[f"{name}.{key}"] for key in head.state_dict()})
        return head.to(dtype)

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """The published linear layer ``name`` of x."""
        return x @ self.weights[f"{name}.weight"].to(x.dtype).T + self.weights[f"{name}.bias"].to(x.dtype)

    def masked_words(self, name: str, words: torch.Tensor) -> torch.Tensor:
        """Logits of masked language modelling from the text's states."""
        transform = f"{name}.transform"
        gain, bias = (self.weights[f"{transform}.LayerNorm.{kind}"].to(words.dtype) for kind in ("weight", "bias"))
        hidden = gelu(self.linear(f"{transform}.dense", words))
        hidden = nn.functional.layer_norm(hidden, gain.shape, gain, bias, eps=1e-12)
        decoder, shift = (self.weights[f"{name}.{key}"].to(words.dtype) for key in ("decoder.weight", "bias"))
        return hidden @ decoder.T + shift
