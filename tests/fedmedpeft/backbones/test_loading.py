from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from fedmedpeft.backbones import EMBEDDED, BackboneRecord, load_backbone, load_record
from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text


@pytest.fixture
def copy(tiny_backbone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_backbone, tmp_path / "copy"))


def _images(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def _edit(directory: Path, **changes: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    tensors = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def test_features_equal_those_of_hugging_face(tiny_backbone: Path) -> None:
    images = _images(3, 32)
    theirs = ViTModel.from_pretrained(tiny_backbone, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = theirs(images).last_hidden_state[:, 0]
        found = load_backbone(str(tiny_backbone))(images)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("directory", ["tiny_backbone", "tiny_clip", "tiny_clip_pair", "tiny_resnet"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_backbone_for_images_refuses_texts(directory: str, position: int, request: pytest.FixtureRequest) -> None:
    backbone = load_backbone(str(request.getfixturevalue(directory)))
    said: list[Text | None] = [None, None]
    said[position] = Text(torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="reads images alone"):
        backbone(torch.zeros(1, 3, 32, 32), *said)


def test_everything_is_frozen(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone)).train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


def test_record_without_weights_equals_the_loaded_one(tiny_backbone: Path, tiny_record: BackboneRecord) -> None:
    record = load_record(str(tiny_backbone))
    assert record == load_backbone(str(tiny_backbone)).record
    assert (record.architecture, record.preprocessing) == (tiny_record.architecture, tiny_record.preprocessing)


def test_the_record_needs_no_weights(copy: Path) -> None:
    record = load_record(str(copy))
    (copy / "model.safetensors").unlink()
    assert load_record(str(copy)) == record


def test_another_image_size_interpolates_positions(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone), image_size=48)
    assert backbone(_images(2, 48)).shape == (2, 16)
    assert backbone.record.preprocessing.image_size == 48
    reference = ViTModel.from_pretrained(tiny_backbone, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = reference(_images(2, 48), interpolate_pos_encoding=True).last_hidden_state[:, 0]
        torch.testing.assert_close(backbone(_images(2, 48)), expected, atol=1e-5, rtol=1e-5)


def test_fingerprint_tells_weights_and_sizes_apart(tiny_backbone: Path, copy: Path) -> None:
    original = load_backbone(str(tiny_backbone)).fingerprint
    assert load_backbone(str(copy)).fingerprint == original
    assert load_backbone(str(copy), image_size=48).fingerprint != original
    name = next(name for name in load_file(copy / "model.safetensors") if name.endswith("cls_token"))
    _edit(copy, **{name: load_file(copy / "model.safetensors")[name] + 1e-3})
    assert load_backbone(str(copy)).fingerprint != original


def test_another_preprocessing_is_another_fingerprint(tiny_backbone: Path, copy: Path) -> None:
    record = json.loads((copy / "preprocessing.json").read_text())
    (copy / "preprocessing.json").write_text(json.dumps({**record, "mean": [0.1, 0.2, 0.3]}))
    assert load_backbone(str(copy)).fingerprint != load_backbone(str(tiny_backbone)).fingerprint


def test_half_precision_file_has_the_fingerprint_of_its_values(copy: Path) -> None:
    half = {name: tensor.half() for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(half, copy / "model.safetensors")
    mark = load_backbone(str(copy)).fingerprint
    save_file({name: tensor.float() for name, tensor in half.items()}, copy / "model.safetensors")
    assert load_backbone(str(copy)).fingerprint == mark


def test_a_missing_tensor_is_refused(copy: Path) -> None:
    name = sorted(load_file(copy / "model.safetensors"))[5]
    _edit(copy, **{name: None})
    with pytest.raises(ConfigError, match="1 tensors missing"):
        load_backbone(str(copy))


def test_a_tensor_that_is_not_finite_is_refused(copy: Path) -> None:
    name = next(name for name in load_file(copy / "model.safetensors") if name.endswith("cls_token"))
    _edit(copy, **{name: torch.full((1, 1, 16), torch.nan)})
    with pytest.raises(ConfigError, match="not finite"):
        load_backbone(str(copy))


def test_a_damaged_file_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_backbone(str(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "config.json").write_text(json.dumps({"model_type": "bert"})), "model_type='bert'"),
        (lambda d: (d / "model.safetensors").unlink(), "0 \\*.safetensors"),
        (lambda d: (d / "preprocessing.json").write_text(json.dumps({"mean": [0, 0, 0], "std": [0, 1, 1]})), "above 0"),
    ],
)
def test_bad_directories_are_named(copy: Path, change: object, message: str) -> None:
    change(copy)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=message):
        load_backbone(str(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 3}, "hidden_size=16 must be a multiple of heads=3"),
        ({"image_size": [32, 32]}, r"image_size=\[32, 32\]"),
        ({"num_hidden_layers": 0}, "depth=0"),
        ({"hidden_size": "16"}, "'hidden_size' expected int, got str"),
    ],
)
def test_sizes_that_do_not_fit_are_named(copy: Path, change: dict[str, object], message: str) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for load in (load_record, load_backbone):
        with pytest.raises(ConfigError, match=f"config.json does not fit: .*{message}"):
            load(str(copy))


def test_names_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="neither 'embedded'"):
        load_backbone("/nowhere/at/all")
    with pytest.raises(ConfigError, match="nor could it be fetched"):
        load_backbone("nobody/nothing")


def test_image_size_must_fit_the_patches(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of patch_size=8"):
        load_backbone(str(tiny_backbone), image_size=30)


def test_the_embedded_backbone_loads_and_is_the_one_that_was_released() -> None:
    backbone = load_backbone(EMBEDDED)
    released = json.loads((Path(__file__).parents[3] / "fedmedpeft/backbones/embedded/fingerprint.json").read_text())
    assert backbone.fingerprint == released["sha256"]
    assert backbone.record.preprocessing.image_size <= 64


def test_pretrained_timm_checkpoint_gives_its_reference_output(shared_data: Path) -> None:
    directory = shared_data / "pretrained_vit_tiny"
    reference = json.loads((directory / "config.json").read_text())["reference"]
    position = torch.arange(224).float()
    channel = torch.arange(3).float()[None, :, None, None]
    pixels = torch.sin(0.05 * position[:, None] + 0.07 * position + channel)
    with torch.no_grad():
        feature = load_backbone(str(directory))(pixels)[0, :8]
    torch.testing.assert_close(
        feature, torch.tensor(reference["cls_feature_first8"]), atol=reference["tolerance"], rtol=0
    )
