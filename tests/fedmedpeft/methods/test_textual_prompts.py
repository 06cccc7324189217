from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPModel

from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import Split
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.portable import load_learner
from fedmedpeft.tasks import Classification
from fedmedpeft.training import LocalTrainer
from fedmedpeft.training.features import FeatureCache
from tests.tiny_clip import tiny_tokenizer

_CLASSES = ("benign", "malignant_tumour", "cyst")
_PHRASE = "textual-prompts(start='a photo of a'{})"


def _learner(directory: Path, method: str = "textual-prompts", classes: tuple[str, ...] = _CLASSES) -> Learner:
    return Learner(load_backbone(str(directory)), method, Classification(classes), 0).eval()


def _images(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("", "a photo of a {}."),
        (", per_class=true", "a photo of a {}."),
        (", class_token_position='middle'", "a photo {} of a."),
        (", class_token_position='front'", "{} a photo of a."),
    ],
)
def test_with_a_phrase_training_starts_at_zero_shot_clip(tiny_clip_pair: Path, options: str, text: str) -> None:
    learner = _learner(tiny_clip_pair, _PHRASE.format(options))
    texts = [text.format(name.replace("_", " ")) for name in _CLASSES]
    tokens = tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    pixels = (_images() / 255 - learner.mean) / learner.std
    expected = CLIPModel.from_pretrained(tiny_clip_pair).eval()(**tokens, pixel_values=pixels).logits_per_image
    torch.testing.assert_close(learner(_images()), expected, atol=1e-5, rtol=1e-5)


def test_the_context_is_all_that_is_trained(tiny_clip_pair: Path) -> None:
    learner = _learner(tiny_clip_pair)
    assert [(s.name, s.shape, s.part) for s in learner.manifest().tensors] == [("text.context", (4, 8), "method")]
    assert [name for name, p in learner.named_parameters() if p.requires_grad] == ["head.context"]
    learner(_images()).square().sum().backward()
    gradient = learner.trainables["text.context"].parameter.grad
    assert gradient is not None
    assert (gradient.abs().sum(1) > 0).all()


def test_a_head_that_is_not_there_cannot_stay_at_the_sites(tiny_clip_pair: Path) -> None:
    with pytest.raises(ConfigError, match="personal='head': this method brings a head of its own"):
        _learner(tiny_clip_pair).manifest(without=["head"])


def test_each_class_may_have_its_own(tiny_clip_pair: Path) -> None:
    learner = _learner(tiny_clip_pair, "textual-prompts(per_class=true, context=2)")
    assert learner.trainables["text.context"].parameter.shape == (3, 2, 8)
    before = learner(_images())
    learner.trainables["text.context"].parameter.data[1, :, 0] += 1
    changed = (learner(_images()) - before).abs().amax(0) > 1e-6
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("method", ["textual-prompts", "textual-prompts(per_class=true)", _PHRASE.format("")])
def test_the_server_needs_no_tokenizer(tiny_clip_pair: Path, method: str) -> None:
    learner = _learner(tiny_clip_pair, method)
    assert learner_skeleton(learner.backbone.record, method, _CLASSES).manifest() == learner.manifest()


def test_local_training_on_cached_features_equals_that_on_images(tiny_clip_pair: Path) -> None:
    split = Split(_images(12), torch.arange(12) % 3, np.arange(12))
    config = RunConfig(method="textual-prompts", batch_size=4)
    states = []
    for cache in (FeatureCache(), None):
        learner = _learner(tiny_clip_pair)
        start = learner.export(learner.manifest()).hash()
        LocalTrainer(learner, config, cache=cache).train(split, first_step=0, steps=4, seed=1)
        states.append(learner.export(learner.manifest()))
        assert states[-1].hash() != start
    with_cache, without = (state.tensors()["text.context"] for state in states)
    torch.testing.assert_close(torch.tensor(with_cache), torch.tensor(without), atol=1e-5, rtol=1e-4)


def test_a_saved_adapter_becomes_the_same_model_again(tiny_clip_pair: Path, tmp_path: Path) -> None:
    learner = _learner(tiny_clip_pair)
    learner.trainables["text.context"].parameter.data += 0.3
    save_adapter(
        tmp_path,
        learner.export(learner.manifest()),
        method="textual-prompts",
        classes=_CLASSES,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
    )
    with torch.no_grad():
        assert torch.equal(load_learner(tmp_path, device="cpu")(_images()), learner(_images()))


@pytest.mark.parametrize("fixture", ["tiny_backbone", "tiny_clip"])
def test_a_backbone_without_a_text_tower_is_refused(fixture: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ConfigError, match="does not have. It needs both of CLIP's towers"):
        _learner(request.getfixturevalue(fixture))


def test_a_pair_without_its_tokenizer_is_refused(tiny_clip_pair: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny_clip_pair, tmp_path / "bare"))
    (bare / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="no tokenizer beside it"):
        _learner(bare)


@pytest.mark.parametrize(
    ("method", "classes", "message"),
    [
        ("textual-prompts(start='a photo')", _CLASSES, "has 2 tokens, and context=4. Set context=2"),
        ("textual-prompts", ("benign", "x" * 30), "makes 37 tokens, and the text tower reads 24"),
        ("textual-prompts(context=22)", _CLASSES, "Shorten the name or the context"),
    ],
)
def test_texts_that_do_not_fit_are_refused(
    tiny_clip_pair: Path, method: str, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _learner(tiny_clip_pair, method, classes)
