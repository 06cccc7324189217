"""What peft itself makes of the files: ``PeftModel.from_pretrained`` computes the logits of the run's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import ResNetForImageClassification, ViTForImageClassification

from fedmedpeft.adapter_file import AdapterConfig, save_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.hf_adapter import HfFormatError, write_hf_adapter
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification
from tests.every_method import EVERY_METHOD

_SEED = 4
_PEFT = [method for method in EVERY_METHOD if method.startswith("peft:")]


def _trained(directory: Path, method: str) -> Learner:
    learner = Learner(load_backbone(str(directory)), method, Classification(("a", "b", "c")), _SEED)
    generator = torch.Generator().manual_seed(5)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner.eval()


def _write(learner: Learner, method: str, directory: Path, personal: tuple[str, ...] = ()) -> AdapterConfig:
    state = learner.export(learner.manifest(without=personal))
    saved = save_adapter(
        directory,
        state,
        method=method,
        classes=learner.task.classes,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        personal=personal,
        seed=_SEED,
    )
    write_hf_adapter(directory, saved, state)
    return saved


@torch.no_grad()
def _assert_same_logits(learner: Learner, kind: type, backbone: Path, adapter: Path) -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    plain = kind.from_pretrained(backbone, num_labels=3)  # type: ignore[attr-defined]
    model = PeftModel.from_pretrained(plain, adapter).eval()
    pixels = (images.float() / 255 - learner.mean) / learner.std
    torch.testing.assert_close(model(pixel_values=pixels).logits, learner(images), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        *_PEFT,
        "lora(rank=3, alpha=5, dropout=0.1, targets='q,v,ffn_in')",
        "lora(alpha=2.5)+layernorm",
        "lora(rank=2, factors='ffa')+layernorm",
        "lora(factors='rolora')",
        "layernorm",
        "peft:ia3+layernorm",
        "peft:ln_tuning(targets='norm1,norm')",
        "peft:ia3(targets='q,ffn_in,ffn_out')",
    ],
)
def test_peft_computes_the_same(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    learner = _trained(tiny_backbone, method)
    _write(learner, method, tmp_path)
    _assert_same_logits(learner, ViTForImageClassification, tiny_backbone, tmp_path)


@pytest.mark.parametrize("method", ["peft:lora(targets='conv')", "peft:loha(targets='conv')"])
def test_convolutional_networks_too(tiny_resnet: Path, tmp_path: Path, method: str) -> None:
    learner = _trained(tiny_resnet, method)
    _write(learner, method, tmp_path)
    _assert_same_logits(learner, ResNetForImageClassification, tiny_resnet, tmp_path)


def test_personal_parts_are_not_in_it(tiny_backbone: Path, tmp_path: Path) -> None:
    learner = _trained(tiny_backbone, "lora+layernorm")
    _write(learner, "lora+layernorm", tmp_path, personal=("layernorm",))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == ["classifier"]
    general = _trained(tiny_backbone, "lora")
    general.load(learner.export(general.manifest()))
    _assert_same_logits(general, ViTForImageClassification, tiny_backbone, tmp_path)


def test_files_are_those_that_people_know(tiny_backbone: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _write(_trained(tiny_backbone, "lora(rank=4)"), "lora(rank=4)", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 16)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert config["inference_mode"] is True
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors["base_model.model.vit.layers.1.attention.v_proj.lora_A.weight"].shape == (4, 16)
    assert tensors["base_model.model.classifier.bias"].shape == (3,)
    assert len(tensors) == 2 * 2 * 2 + 2


def test_equal_adapters_are_equal_files(tiny_backbone: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        _write(_trained(tiny_backbone, "peft:vera"), "peft:vera", tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("vpt-deep", "no method that is 'vpt-deep'"),
        ("head", "a head alone"),
        ("lora+vpt-deep", "'lora' and 'vpt-deep' in one adapter"),
    ],
)
def test_what_peft_cannot_express_is_said(tiny_backbone: Path, tmp_path: Path, method: str, reason: str) -> None:
    with pytest.raises(HfFormatError, match=reason):
        _write(_trained(tiny_backbone, method), method, tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()


def test_meter_has_no_such_classifier(tiny_meter: str, tmp_path: Path) -> None:
    learner = Learner(load_backbone(tiny_meter), "lora", Classification(("a", "b", "c")), 0)
    with pytest.raises(HfFormatError, match="reads meter's feature"):
        _write(learner, "lora", tmp_path)


def test_clip_has_no_such_classifier(tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(HfFormatError, match="reads clip's feature"):
        _write(_trained(tiny_clip, "lora"), "lora", tmp_path)
