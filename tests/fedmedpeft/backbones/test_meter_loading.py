"""METER-like backbones of two towers, and what a configuration may say of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedmedpeft.backbones import BackboneRecord, load_backbone, load_record, skeleton
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.tasks import Classification
from fedmedpeft.text import Text
from tests.tiny_meter import meter_text

_QUESTIONS = ["Is there fluid in the left lung?", "brain"]


@pytest.fixture
def bert(tiny_text_tower: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_text_tower, tmp_path / "bert"))


@pytest.fixture
def vit(tiny_backbone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_backbone, tmp_path / "vit"))


def _load(name: str, image_size: int = 0) -> Meter:
    backbone = load_backbone(name, image_size=image_size)
    assert isinstance(backbone, Meter)
    return backbone


def _pixels(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def _texts(backbone: Meter, *texts: str) -> Text:
    assert backbone.tokenizer is not None
    return backbone.tokenizer.encode(texts or _QUESTIONS, backbone.text_length)


def test_the_feature_is_of_image_and_text(tiny_meter: str) -> None:
    backbone = _load(tiny_meter)
    text = _texts(backbone)
    feature = backbone(_pixels(), text)
    assert feature.shape == (2, 64)
    assert not torch.allclose(feature, backbone(_pixels().flip(0), text), atol=1e-4)
    assert not torch.allclose(feature, backbone(_pixels(), text.rows(torch.tensor([1, 0]))), atol=1e-4)
    with pytest.raises(ValueError, match="reads an image and a text"):
        backbone(_pixels())


def test_the_towers_are_the_published_ones(tiny_meter: str, tiny_backbone: Path, tiny_text_tower: Path) -> None:
    backbone = _load(tiny_meter)
    alone = load_backbone(str(tiny_backbone))
    with torch.no_grad():
        assert torch.equal(backbone.vision(_pixels())[:, 0], alone(_pixels()))
    stored = load_file(tiny_text_tower / "model.safetensors")
    own = backbone.original_parameters()
    assert torch.equal(own["text.embed.word.weight"], stored["embeddings.word_embeddings.weight"])
    assert torch.equal(own["text.blocks.1.q.weight"], stored["encoder.layer.1.attention.self.query.weight"])


def test_the_record_needs_no_weights(vit: Path, bert: Path) -> None:
    name = meter_text(vit, bert)
    loaded = _load(name)
    for directory in (vit, bert):
        (directory / "model.safetensors").unlink()
    (bert / "tokenizer.json").unlink()
    record = load_record(name)
    assert record == loaded.record
    assert record.remarks == ("fusion layers random (fusion_seed=0)",)
    assert BackboneRecord.model_validate_json(record.model_dump_json()) == record
    bones = skeleton(record)
    assert {n: p.shape for n, p in bones.named_parameters()} == {n: p.shape for n, p in loaded.named_parameters()}
    assert all(parameter.is_meta for parameter in bones.parameters())
    manifest = learner_skeleton(record, "lora(where=fusion)+layernorm", ["a", "b"]).manifest()
    assert manifest == Learner(loaded, "lora(where=fusion)+layernorm", Classification(("a", "b")), 0).manifest()


def test_preprocessing_is_the_image_towers(tiny_meter: str, tiny_record: BackboneRecord) -> None:
    assert load_record(tiny_meter).preprocessing == tiny_record.preprocessing


@pytest.mark.parametrize("fixture", ["tiny_clip", "tiny_clip_pair"])
def test_the_last_block_of_clip_is_left_out(
    fixture: str, tiny_text_tower: Path, request: pytest.FixtureRequest
) -> None:
    directory: Path = request.getfixturevalue(fixture)
    backbone = _load(meter_text(directory, tiny_text_tower))
    assert len(backbone.vision.blocks) == 1
    assert load_record(meter_text(directory, tiny_text_tower)) == backbone.record
    whole = _load(meter_text(directory, tiny_text_tower, vision_blocks=2))
    assert len(whole.vision.blocks) == 2
    clip = load_backbone(str(directory)).original_parameters()
    own = backbone.original_parameters()
    assert torch.equal(own["vision.blocks.0.q.weight"], clip["blocks.0.q.weight"])
    assert torch.equal(own["vision.norm_pre.weight"], clip["norm_pre.weight"])
    assert not any("projection" in key for key in own)


def test_the_embedded_image_tower(tiny_text_tower: Path) -> None:
    sizes = "hidden_size=32, depth=1, heads=2, text_length=8"
    backbone = _load(f"meter(vision=embedded, text='{tiny_text_tower}', {sizes})")
    size = backbone.record.preprocessing.image_size
    assert len(backbone.vision.blocks) == load_record("embedded").architecture.depth  # type: ignore[union-attr]
    assert backbone.architecture.ffn_size == 128
    assert backbone(_pixels(size), _texts(backbone)).isfinite().all()


def test_sizes_are_meters_own_where_nothing_is_said(tiny_backbone: Path, tiny_text_tower: Path) -> None:
    sizes = load_record(f"meter(vision='{tiny_backbone}', text='{tiny_text_tower}', text_length=8)").architecture
    assert sizes.model_dump(include={"hidden_size", "depth", "heads", "ffn_size", "layer_norm_eps"}) == {
        "hidden_size": 768, "depth": 6, "heads": 12, "ffn_size": 3072, "layer_norm_eps": 1e-12
    }  # fmt: skip


def test_another_image_size(tiny_meter: str, tiny_backbone: Path) -> None:
    backbone = _load(tiny_meter, image_size=48)
    assert load_record(tiny_meter, image_size=48) == backbone.record
    with torch.no_grad():
        alone = load_backbone(str(tiny_backbone), image_size=48)
        assert torch.equal(backbone.vision(_pixels(48))[:, 0], alone(_pixels(48)))
        assert backbone(_pixels(48), _texts(backbone)).shape == (2, 64)
    with pytest.raises(ConfigError, match="multiple of patch_size=8"):
        load_record(tiny_meter, image_size=30)


def test_the_fingerprint_covers_everything(vit: Path, bert: Path) -> None:
    name = meter_text(vit, bert)
    marks = [_load(name).fingerprint]
    assert _load(name).fingerprint == marks[0]
    assert _load(meter_text(vit, bert, fusion_seed=0)).fingerprint == marks[0]
    marks += [_load(meter_text(vit, bert, **{key: 1})).fingerprint for key in ("fusion_seed", "depth", "vision_blocks")]
    marks.append(_load(meter_text(vit, bert, text_length=10)).fingerprint)
    marks.append(_load(name, image_size=48).fingerprint)
    for directory, tensor in ((vit, "layers.0.layernorm_before.bias"), (bert, "embeddings.LayerNorm.bias")):
        path = directory / "model.safetensors"
        tensors = load_file(path)
        (stored,) = [key for key in tensors if key.endswith(tensor) or key.endswith(tensor.replace("layers", "layer"))]
        save_file({**tensors, stored: tensors[stored] + 1e-3}, path)
        marks.append(_load(name).fingerprint)
    content = json.loads((bert / "tokenizer.json").read_text())
    content["normalizer"]["lowercase"] = False
    (bert / "tokenizer.json").write_text(json.dumps(content))
    marks.append(_load(name).fingerprint)
    assert len(set(marks)) == len(marks)


def test_half_precision_files_have_the_fingerprint_of_their_values(vit: Path, bert: Path) -> None:
    marks = []
    for dtype in (torch.float16, torch.float32):
        for directory in (vit, bert):
            path = directory / "model.safetensors"
            save_file({key: tensor.half().to(dtype) for key, tensor in load_file(path).items()}, path)
        marks.append(_load(meter_text(vit, bert)).fingerprint)
    assert marks[0] == marks[1]


def test_everything_is_frozen_and_moves_to_a_device(tiny_meter: str) -> None:
    backbone = _load(tiny_meter).train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert not any(tensor.is_meta for tensor in backbone.state_dict().values())
    assert all(tensor.is_meta for tensor in backbone.to("meta").state_dict().values())


def _inserted(name: str, method: str) -> Learner:
    learner = Learner(_load(name), method, Classification(("a", "b")), 0)
    generator = torch.Generator().manual_seed(2)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.3 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner


@pytest.mark.parametrize("method", ["lora(where=text)", "houlsby", "kpl-adapter(where='vision,text')"])
def test_knowledge_is_read_by_the_text_tower_as_it_was_published(tiny_meter: str, method: str) -> None:
    plain, learner = _load(tiny_meter), _inserted(tiny_meter, method)
    changed = learner.backbone
    assert isinstance(changed, Meter)
    knowledge = _texts(plain, "fluid is a mass", "brain is in the left heart [SEP] lung")
    with torch.no_grad():
        assert not torch.allclose(changed.text(knowledge), plain.text(knowledge), atol=1e-3)
    found = changed.encode_knowledge(knowledge)
    assert torch.equal(found, plain.encode_knowledge(knowledge))
    assert not found.requires_grad
    with torch.no_grad():  # and what was inserted is there again
        assert not torch.allclose(changed.text(knowledge), plain.text(knowledge), atol=1e-3)


def test_what_is_inserted_is_there_again_after_an_error(tiny_meter: str) -> None:
    backbone = _inserted(tiny_meter, "houlsby+vpt-deep").backbone
    assert isinstance(backbone, Meter)
    before = [place.current for place in backbone.every_place()]
    unknown = Text(torch.tensor([[10**6]]), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(IndexError):
        backbone.encode_knowledge(unknown)
    assert all(place.current is module for place, module in zip(backbone.every_place(), before, strict=True))


@pytest.mark.parametrize(("method", "moves"), [("kpl", False), ("layernorm(where=fusion)", False), ("layernorm", True)])
def test_knowledge_moves_only_with_the_towers_own_parameters(tiny_meter: str, method: str, moves: bool) -> None:
    plain, changed = _load(tiny_meter), _inserted(tiny_meter, method).backbone
    assert isinstance(changed, Meter)
    knowledge = _texts(plain)
    found = changed.encode_knowledge(knowledge)
    assert torch.equal(found, plain.encode_knowledge(knowledge)) != moves
    assert not found.requires_grad


def test_no_gradient_flows_through_knowledge(tiny_meter: str) -> None:
    """Nor through the transform and the type embedding that it shares with the text."""
    backbone = _inserted(tiny_meter, "full").backbone
    assert isinstance(backbone, Meter)
    asks: list[bool] = []
    backbone.fusion.layers[0].register_forward_pre_hook(lambda _, inputs: asks.extend(x.requires_grad for x in inputs))
    text = _texts(backbone)
    backbone(_pixels(), text, text)
    words, image, _, knowledge, _ = asks
    assert (words, image, knowledge) == (True, True, False)


def test_knowledge_changes_the_feature_and_its_padding_does_not(tiny_meter: str) -> None:
    backbone = _load(tiny_meter)
    text, knowledge = _texts(backbone), _texts(backbone, "fluid is a mass", "brain")
    with torch.no_grad():
        found = backbone(_pixels(), text, knowledge)
        assert not torch.allclose(found, backbone(_pixels(), text), atol=1e-5)
        longer = Text(
            torch.nn.functional.pad(knowledge.ids, (0, 5), value=7), torch.nn.functional.pad(knowledge.mask, (0, 5))
        )
        torch.testing.assert_close(backbone(_pixels(), text, longer), found, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("meter", "lacks vision and text"),
        ("meter(vision=embedded)", r"lacks text\. Write meter\(vision="),
        ("meter(text=a/b, visoin=c)", "no option 'visoin'. Did you mean 'vision'"),
        ("meter(vision=embedded, text='{text}', depth=-1)", "depth=-1"),
        ("meter(vision=embedded, text='{text}', hidden_size=50)", "hidden_size=50 must be a multiple of heads=12"),
        ("meter(vision=embedded, text='{text}', text_length=50)", "the text tower reads at most 32 tokens"),
        ("meter(vision=embedded, text='{text}', vision_blocks=99)", "vision_blocks=99, and vision='embedded' has"),
        ("meter(vision='{resnet}', text='{text}')", "is a resnet, which has no tokens"),
        ("meter(vision=embedded, text='{text}', vision_heads=2)", "vision_heads belongs to checkpoint="),
        ("meter(checkpoint=x.ckpt, vision=embedded, fusion_seed=1)", "brings what vision, fusion_seed would say"),
        ("meter(checkpoint=/nowhere/x.ckpt, text='{text}')", "there is no such file on this machine"),
    ],
)
def test_what_cannot_be_is_named(name: str, message: str, tiny_text_tower: Path, tiny_resnet: Path) -> None:
    text = name.format(text=tiny_text_tower, resnet=tiny_resnet)
    for load in (load_record, load_backbone):
        with pytest.raises(ConfigError, match=message):
            load(text)


def test_a_revision_is_of_one_network(tiny_meter: str) -> None:
    with pytest.raises(ConfigError, match=r"Write meter\(vision_revision="):
        load_record(tiny_meter, revision="main")


def test_a_directory_may_be_called_meter(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_backbone, tmp_path / "meter")
    monkeypatch.chdir(tmp_path)
    assert load_record("meter").architecture.family == "vit"
