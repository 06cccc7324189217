"""A run that starts from a LoRA that Hugging Face peft wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification

from fedmedpeft.components import ConfigError
from tests.starting import new_learner, some_images, started_learner


@pytest.fixture
def hf_lora(tiny_backbone: Path, tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    """A LoRA that peft itself made, with a head."""
    torch.manual_seed(0)
    plain = ViTForImageClassification.from_pretrained(tiny_backbone, num_labels=3)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    model = get_peft_model(plain, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "hf")
    return model.eval(), tmp_path / "hf"


def _rename(directory: Path, rename: Callable[[str], str]) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({rename(name): tensor for name, tensor in load_file(path).items()}, path)


def _old(name: str) -> str:
    name = name.replace(".layers.", ".encoder.layer.")
    return name.replace("attention.q_proj", "attention.attention.query").replace(
        "attention.v_proj", "attention.attention.value"
    )


@pytest.mark.parametrize(
    "method",
    ["lora(rank=4, alpha=12)", "lora(rank=4, alpha=12, factors='rolora')", "peft:lora(r=4, lora_alpha=12)+layernorm"],
)
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        _old,
        lambda name: name.removeprefix("base_model.model."),
        lambda name: _old(name).replace("base_model.model.vit.", "base_model.model.base_model."),
        lambda name: name.replace("lora_A.weight", "lora_A.default.weight"),
    ],
)
@torch.no_grad()
def test_a_lora_of_hugging_face_under_all_its_names(
    tiny_backbone: Path,
    hf_lora: tuple[torch.nn.Module, Path],
    method: str,
    rename: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, directory = hf_lora
    _rename(directory, rename)
    started = started_learner(tiny_backbone, directory, method)
    pixels = (some_images().float() / 255 - started.mean) / started.std
    expected = model.base_model.model.vit(pixel_values=pixels).last_hidden_state[:, 0]  # type: ignore[union-attr, operator]
    torch.testing.assert_close(started.features(some_images()), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(started.head.weight, new_learner(tiny_backbone, method).head.weight)  # type: ignore[arg-type]
    assert "does not say what its classes are" in caplog.text


@pytest.mark.parametrize(
    "method",
    [
        "lora",
        "lora(rank=4, alpha=12, targets='q,k')",
        "lora(rank=4, alpha=12, factors='ffa')",
        "peft:rslora(r=4, lora_alpha=12)",
    ],
)
def test_the_method_to_write_is_said(tiny_backbone: Path, hf_lora: tuple[torch.nn.Module, Path], method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        started_learner(tiny_backbone, hf_lora[1], method)
    assert "method=\"lora(rank=4, alpha=12, targets='q,v')\"" in str(caught.value)


def _configure(**changes: Any) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return act


def _break(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(path).items()}, path)


def _reshape(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({name: tensor[:2].contiguous() for name, tensor in load_file(path).items()}, path)


def _drop(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "layers.1" not in name}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_configure(peft_type="IA3"), "is of type IA3; a run can start from a plain LoRA only"),
        (_configure(use_dora=True), "uses use_dora"),
        (_configure(bias="all"), "uses bias"),
        (_configure(init_lora_weights="pissa_niter_4"), "uses init_lora_weights='pissa_niter_4'"),
        (_configure(kasa_config={"beta": 1}), "uses kasa_config"),
        (_configure(r="4"), "not that of a LoRA"),
        (lambda d: (d / "adapter_config.json").write_text("{"), "not that of a LoRA"),
        (lambda d: (d / "adapter_model.safetensors").unlink(), "never read"),
        (lambda d: _rename(d, lambda name: name.replace("q_proj", "qq_proj")), "belongs to no projection"),
        (_break, "'blocks.0.q.lora_A' has values that are not finite"),
        (_reshape, "of shape \\(2, 16\\) does not fit method="),
        (_drop, "lacks 'blocks.1.q.lora_A' and 3 others"),
        (_configure(use_rslora=True), "peft:rslora\\(r=4, lora_alpha=12"),
    ],
)
def test_what_cannot_be_started_from_is_refused(
    tiny_backbone: Path, hf_lora: tuple[torch.nn.Module, Path], damage: Callable[[Path], object], message: str
) -> None:
    damage(hf_lora[1])
    with pytest.raises(ConfigError, match=message):
        started_learner(tiny_backbone, hf_lora[1], "lora(rank=4, alpha=12)")


@torch.no_grad()
def test_rslora_too(tiny_backbone: Path, hf_lora: tuple[torch.nn.Module, Path]) -> None:
    _configure(use_rslora=True)(hf_lora[1])
    started = started_learner(tiny_backbone, hf_lora[1], "peft:rslora(r=4, lora_alpha=12)")
    tensor = load_file(hf_lora[1] / "adapter_model.safetensors")
    name = "base_model.model.vit.layers.0.attention.q_proj.lora_A.weight"
    assert torch.equal(started.trainables["blocks.0.q.peft.lora_A.weight"].parameter, tensor[name])
