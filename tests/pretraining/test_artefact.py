from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTModel

from pretraining.artefact import read_artefact, write_artefact
from pretraining.objective import build_backbone

EMBEDDED = Path(__file__).parents[2] / "fedmedpeft" / "backbones" / "embedded"
FILES = {"model.safetensors", "config.json", "preprocessing.json", "fingerprint.json"}


def test_what_is_written_loads_without_missing_or_unexpected_keys(tmp_path: Path) -> None:
    backbone = build_backbone(width=64, depth=1)
    write_artefact(backbone, backbone.state_dict(), tmp_path / "artefact")
    _, info = ViTModel.from_pretrained(tmp_path / "artefact", add_pooling_layer=False, output_loading_info=True)

    assert {path.name for path in (tmp_path / "artefact").iterdir()} == FILES
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    stored = load_file(tmp_path / "artefact" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    expected = {name: tensor.to(torch.float16).float() for name, tensor in backbone.state_dict().items()}
    torch.testing.assert_close(dict(read_artefact(tmp_path / "artefact").state_dict()), expected, atol=0, rtol=0)


def test_weights_other_than_the_backbones_own_are_what_is_written(tmp_path: Path) -> None:
    backbone = build_backbone(width=64, depth=1)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    write_artefact(backbone, {name: torch.full_like(tensor, 0.5) for name, tensor in before.items()}, tmp_path)

    assert all((tensor == 0.5).all() for tensor in read_artefact(tmp_path).state_dict().values())
    torch.testing.assert_close(dict(backbone.state_dict()), before)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"model\.safetensors"):
        read_artefact(tmp_path)


def test_the_shipped_artefact_is_small_complete_and_not_an_initialisation() -> None:
    assert (EMBEDDED / "model.safetensors").stat().st_size < 8_000_000
    assert json.loads((EMBEDDED / "preprocessing.json").read_text())["image_size"] == 64
    model = read_artefact(EMBEDDED)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = model(torch.randn(8, 3, 64, 64, generator=generator)).last_hidden_state[:, 0]
        flat = model(torch.zeros(1, 3, 64, 64)).last_hidden_state[:, 0]

    assert torch.isfinite(features).all()
    assert not torch.equal(features[:1], flat)
    # Layer norms start as exact ones; training moves every one of them.
    assert all((p != 1).any() for name, p in model.named_parameters() if name.endswith("layernorm.weight"))
