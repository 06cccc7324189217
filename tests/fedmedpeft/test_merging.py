from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from fedmedpeft.backbones import Inserted, NotMergeable, load_backbone, load_record
from fedmedpeft.components import ConfigError, parse_composition
from fedmedpeft.learner import Learner
from fedmedpeft.merging import merge, save_merged
from fedmedpeft.methods import METHODS
from fedmedpeft.tasks import Classification
from tests.every_method import EVERY_METHOD

_COMPOSED = ["lora+layernorm", "lora+ssf", "lora+peft:oft+ssf", "bitfit+lora", "lora(factors='ffa')"]


def _trained(directory: Path, method: str) -> Learner:
    learner = Learner(load_backbone(str(directory)), method, Classification(("cyst", "tumour")), 0)
    generator = torch.Generator().manual_seed(5)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner.eval()


def _images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def _mergeable(method: str) -> bool:
    return all(METHODS.build(spec).mergeable for spec in parse_composition(method))


def _on(backbone: Path, method: str) -> Learner:
    try:
        return _trained(backbone, method)
    except ConfigError:
        pytest.skip("acts on what this backbone does not have")


@pytest.mark.parametrize(
    "method",
    [m for m in [*EVERY_METHOD, *_COMPOSED] if _mergeable(m)],
)
@torch.no_grad()
def test_the_merged_model_computes_the_same_logits(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    learner = _on(tiny_backbone, method)
    expected = learner(_images())
    mark = save_merged(learner, method, tmp_path / "merged", source="a test", synthetic=False)
    assert torch.equal(learner(_images()), expected)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "merged").eval()
    pixels = (_images().float() / 255 - learner.mean) / learner.std
    torch.testing.assert_close(model(pixel_values=pixels).logits, expected, atol=1e-5, rtol=1e-5)
    backbone = load_backbone(str(tmp_path / "merged"))
    torch.testing.assert_close(backbone(pixels), learner.features(_images()), atol=1e-5, rtol=1e-5)
    assert backbone.record.preprocessing == learner.backbone.record.preprocessing
    assert not any(isinstance(module, Inserted) for module in backbone.modules())
    assert backbone.fingerprint == mark
    assert (mark == learner.backbone.fingerprint) == (method == "head")


@pytest.mark.parametrize(
    "method",
    ["batchnorm", "batchnorm(statistics='site')", "full", "peft:lora(targets='conv')", "peft:loha(targets='conv')"],
)
@torch.no_grad()
def test_convolutional_networks_too(tiny_resnet: Path, tmp_path: Path, method: str) -> None:
    learner = _trained(tiny_resnet, method)
    for tensor in learner.kept().values():
        tensor += 0.1
    save_merged(learner, method, tmp_path / "merged", source="a test", synthetic=False)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "merged").eval()
    pixels = (_images().float() / 255 - learner.mean) / learner.std
    torch.testing.assert_close(model(pixel_values=pixels).logits, learner(_images()), atol=1e-5, rtol=1e-5)
    assert load_record(str(tmp_path / "merged")).preprocessing == learner.backbone.record.preprocessing


def test_the_checkpoint_says_what_it_is(tiny_backbone: Path, tmp_path: Path) -> None:
    learner = _trained(tiny_backbone, "lora")
    mark = save_merged(learner, "lora", tmp_path / "merged", source="run x, method `lora`", synthetic=True)
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["architectures"] == ["ViTForImageClassification"]
    assert config["id2label"] == {"0": "cyst", "1": "tumour"}
    page = (tmp_path / "merged" / "README.md").read_text()
    assert all(text in page for text in ("run x", "generated images", mark, learner.backbone.fingerprint))
    processor = AutoImageProcessor.from_pretrained(tmp_path / "merged", backend="pil")
    assert (tuple(processor.image_mean), processor.size["height"]) == ((0.4, 0.5, 0.6), 32)
    assert (tmp_path / "merged").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("method", [m for m in EVERY_METHOD if not _mergeable(m)])
def test_a_method_that_is_no_weight_is_named(tiny_backbone: Path, method: str) -> None:
    learner = _on(tiny_backbone, method)
    with pytest.raises(ConfigError, match=f"'{method.partition('(')[0]}.* cannot be merged"):
        merge(learner, method)


def test_a_place_that_is_no_weight_is_named(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = _trained(tiny_backbone, "lora")

    def refuse(self: Inserted, base: torch.nn.Module) -> torch.nn.Module:
        raise NotMergeable("LoraLinear")

    monkeypatch.setattr("fedmedpeft.methods.lora.LoraLinear.merged", refuse)
    with pytest.raises(ConfigError, match=r"'blocks\.0\.q' cannot be merged"):
        merge(learner, "lora")


def test_clip_is_refused(tiny_clip: Path) -> None:
    with pytest.raises(ConfigError, match="no image classifier of transformers"):
        merge(_trained(tiny_clip, "lora"), "lora")


def test_meter_is_refused(tiny_meter: str) -> None:
    with pytest.raises(ConfigError, match="A meter backbone cannot be merged"):
        merge(Learner(load_backbone(tiny_meter), "lora", Classification(("a", "b")), 0), "lora")


def test_a_bias_that_the_published_model_has_not_is_refused(tiny_resnet: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit ResNetForImageClassification"):
        merge(_trained(tiny_resnet, "ssf"), "ssf")


def test_nothing_is_overwritten_and_nothing_half_done_is_left(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = _trained(tiny_backbone, "lora")
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        save_merged(learner, "lora", tmp_path / "there", source="", synthetic=False)
    monkeypatch.setattr("fedmedpeft.merging.load_backbone", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_merged(learner, "lora", tmp_path / "new", source="", synthetic=False)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
