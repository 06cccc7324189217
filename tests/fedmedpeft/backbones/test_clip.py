from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPVisionModel, CLIPVisionModelWithProjection

from fedmedpeft.backbones import Clip, load_backbone, load_record, skeleton
from fedmedpeft.backbones.clip import ClipFamily
from fedmedpeft.components import ConfigError
from tests.tiny_clip import tiny_tokenizer


@pytest.fixture
def vision(tiny_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_clip, tmp_path / "vision"))


@pytest.fixture
def pair(tiny_clip_pair: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_clip_pair, tmp_path / "pair"))


def _images(size: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def _configure(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _load(directory: Path) -> Clip:
    backbone = load_backbone(str(directory))
    assert isinstance(backbone, Clip)
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 48])
def test_features_of_the_vision_tower_are_the_image_embeddings(tiny_clip: Path, size: int) -> None:
    reference = CLIPVisionModelWithProjection.from_pretrained(tiny_clip).eval()
    expected = reference(_images(size), interpolate_pos_encoding=True).image_embeds
    found = load_backbone(str(tiny_clip), image_size=size)(_images(size))
    assert found.shape == (3, 12)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 16])
def test_features_of_the_pair_are_the_image_features(tiny_clip_pair: Path, size: int) -> None:
    reference = CLIPModel.from_pretrained(tiny_clip_pair).eval()
    expected = reference.get_image_features(_images(size), interpolate_pos_encoding=True).pooler_output
    found = load_backbone(str(tiny_clip_pair), image_size=size)(_images(size))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_without_a_projection_the_feature_is_the_normalised_class_token(tiny_clip: Path, tmp_path: Path) -> None:
    published = CLIPVisionModelWithProjection.from_pretrained(tiny_clip)
    published.vision_model.save_pretrained(tmp_path)
    expected = CLIPVisionModel.from_pretrained(tmp_path).eval()(_images()).pooler_output
    backbone = load_backbone(str(tmp_path))
    assert backbone.feature_size == 16
    torch.testing.assert_close(backbone(_images()), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_text_features_are_those_of_hugging_face_whatever_the_padding(tiny_clip_pair: Path) -> None:
    texts = ["a photo of a benign tumour.", "cyst"]
    tokens = tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    reference = CLIPModel.from_pretrained(tiny_clip_pair).eval()
    expected = reference.get_text_features(**tokens).pooler_output
    backbone = _load(tiny_clip_pair)
    tower, tokenizer = backbone.text, backbone.tokenizer
    assert tower is not None
    assert tokenizer is not None
    rows = [[tokenizer.start, *tokenizer.tokens(text), tokenizer.end] for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    ends = torch.tensor([len(row) - 1 for row in rows])
    found = tower(tower.token_embedding(ids), ends)
    torch.testing.assert_close(found, expected / expected.norm(dim=-1, keepdim=True), atol=1e-6, rtol=1e-5)


def test_the_text_tower_is_frozen_and_no_part_of_full_fine_tuning(tiny_clip_pair: Path) -> None:
    backbone = _load(tiny_clip_pair).train()
    assert backbone.text is not None
    backbone.text.train()
    assert not any(module.training for module in backbone.text.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    text = {id(parameter) for parameter in backbone.text.parameters()}
    full = {id(parameter) for parameter in backbone.original_parameters().values()}
    assert text
    assert not text & full
    assert text | full == {id(parameter) for parameter in backbone.parameters()}


@pytest.mark.parametrize("fixture", ["tiny_clip", "tiny_clip_pair"])
def test_the_record_needs_no_weights_and_makes_a_skeleton(fixture: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(fixture)
    record, loaded = load_record(str(directory)), load_backbone(str(directory))
    assert record == loaded.record
    bones = skeleton(record)
    assert {n: p.shape for n, p in bones.named_parameters()} == {n: p.shape for n, p in loaded.named_parameters()}
    assert all(parameter.is_meta for parameter in bones.parameters())
    assert record.preprocessing.mean == (0.45, 0.5, 0.55)
    assert record.preprocessing.interpolation == "bicubic"


def test_published_names_are_those_in_the_file(tiny_clip_pair: Path) -> None:
    backbone, stored = load_backbone(str(tiny_clip_pair)), load_file(tiny_clip_pair / "model.safetensors")
    for key, parameter in backbone.original_parameters().items():
        torch.testing.assert_close(parameter, stored[backbone.published_name(key)], rtol=0, atol=0)


def test_clip_has_its_own_preprocessing_where_the_checkpoint_says_nothing(vision: Path) -> None:
    (vision / "preprocessor_config.json").unlink()
    preprocessing = load_record(str(vision)).preprocessing
    assert (preprocessing.mean, preprocessing.std) == (ClipFamily.mean, ClipFamily.std)


def _touch(directory: Path, name: str) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, name: tensors[name] + 1e-3}, path)


def test_the_fingerprint_covers_both_towers_and_the_words(pair: Path) -> None:
    marks = [load_backbone(str(pair)).fingerprint]
    for name in ("vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.bias", "logit_scale"):
        _touch(pair, name)
        marks.append(load_backbone(str(pair)).fingerprint)
    words = json.loads((pair / "tokenizer.json").read_text())
    vocabulary = words["model"]["vocab"]
    vocabulary["q"], vocabulary["z"] = vocabulary["z"], vocabulary["q"]
    (pair / "tokenizer.json").write_text(json.dumps(words))
    marks.append(load_backbone(str(pair)).fingerprint)
    assert len(set(marks)) == len(marks)


def test_half_a_pair_is_refused(pair: Path, tiny_clip: Path) -> None:
    shutil.copy(tiny_clip / "model.safetensors", pair)
    with pytest.raises(ConfigError, match="missing"):
        load_backbone(str(pair))


def test_a_pair_is_not_taken_for_a_vision_tower(pair: Path, tiny_clip: Path) -> None:
    shutil.copy(tiny_clip / "config.json", pair)
    with pytest.raises(ConfigError, match="unknown"):
        load_backbone(str(pair))


def test_a_projection_that_the_configuration_does_not_name_is_refused(vision: Path) -> None:
    _configure(vision, architectures=["CLIPVisionModel"])
    with pytest.raises(ConfigError, match=r"unknown \(visual_projection"):
        load_backbone(str(vision))


def test_positions_that_earlier_versions_stored_are_left_out(pair: Path) -> None:
    mark = load_backbone(str(pair)).fingerprint
    path = pair / "model.safetensors"
    save_file({**load_file(path), "text_model.embeddings.position_ids": torch.arange(24)[None]}, path)
    assert load_backbone(str(pair)).fingerprint == mark


def test_a_pair_of_another_kind_is_refused(pair: Path) -> None:
    _configure(pair, model_type="vision-text-dual-encoder")
    with pytest.raises(ConfigError, match="only CLIP's own is read: not BiomedCLIP's"):
        load_backbone(str(pair))


def test_a_pair_loads_without_its_tokenizer(pair: Path) -> None:
    (pair / "tokenizer.json").unlink()
    assert load_backbone(str(pair)).tokenizer is None


def test_a_tokenizer_of_another_checkpoint_is_refused(pair: Path) -> None:
    words = json.loads((pair / "tokenizer.json").read_text())
    words["model"]["vocab"]["new</w>"] = 5000
    (pair / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ConfigError, match="has 5001 tokens"):
        load_backbone(str(pair))
    (pair / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_backbone(str(pair))
