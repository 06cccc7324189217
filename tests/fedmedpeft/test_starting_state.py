from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS
from fedmedpeft.starting_state import load_start
from tests.every_method import EVERY_METHOD, suits
from tests.starting import CLASSES, new_learner, some_images, started_learner


def _nudge(learner: Learner) -> Learner:
    for index, trainable in enumerate(learner.trainables.values()):
        shape = trainable.parameter.shape
        trainable.parameter.data += 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(index))
    return learner


def _adapter(backbone: Path, method: str, directory: Path, personal: tuple[str, ...] = (), seed: int = 0) -> Learner:
    learner = _nudge(new_learner(backbone, method, seed))
    save_adapter(
        directory,
        learner.export(learner.manifest(without=personal)),
        method=method,
        classes=CLASSES,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        personal=personal,
        seed=seed,
    )
    return learner


def test_nothing_is_done_where_nothing_is_asked_for(tiny_backbone: Path) -> None:
    learner = new_learner(tiny_backbone, "lora")
    before = learner.export(learner.manifest()).hash()
    load_start(learner, RunConfig(method="lora"))
    assert learner.export(learner.manifest()).hash() == before


@pytest.mark.parametrize("method", ["lora(rank=2)", "lora+vpt-deep", "peft:vera"])
def test_every_site_starts_from_the_adapter(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    trained = _adapter(tiny_backbone, method, tmp_path / "adapter")
    for path in (tmp_path, tmp_path / "adapter"):
        started = started_learner(tiny_backbone, path, method)
        assert started.export(started.manifest()).hash() == trained.export(trained.manifest()).hash()
        with torch.no_grad():
            assert torch.equal(started(some_images()), trained(some_images()))


def test_what_the_adapter_lacks_starts_as_always(
    tiny_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = _adapter(tiny_backbone, "lora+layernorm", tmp_path, personal=("layernorm",))
    with caplog.at_level(logging.INFO, "fedmedpeft.site"):
        started = started_learner(tiny_backbone, tmp_path, "lora+layernorm+vpt-deep", seed=7)
    usual = new_learner(tiny_backbone, "lora+layernorm+vpt-deep", seed=7)
    for name, trainable in started.trainables.items():
        source = trained if trainable.owner in ("lora", "head") else usual
        assert torch.equal(trainable.parameter, source.trainables[name].parameter), name
    assert "new: layernorm, vpt-deep" in caplog.text


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "c", "b")])
def test_the_head_is_taken_only_for_the_same_classes(
    tiny_backbone: Path, tmp_path: Path, classes: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    trained = _adapter(tiny_backbone, "lora", tmp_path)
    started = started_learner(tiny_backbone, tmp_path, "lora", classes=classes)
    usual = new_learner(tiny_backbone, "lora", classes=classes)
    assert torch.equal(started.head.weight, usual.head.weight)  # type: ignore[arg-type]
    name = "blocks.0.q.lora_B"
    assert torch.equal(started.trainables[name].parameter, trained.trainables[name].parameter)
    assert "The head starts anew: the adapter's classes are a, b, c" in caplog.text


def test_of_very_many_classes_the_first_few_are_said(
    tiny_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = new_learner(tiny_backbone, "head", classes=tuple(f"answer {i}" for i in range(14)))
    save_adapter(
        tmp_path,
        learner.export(learner.manifest()),
        method="head",
        classes=learner.task.classes,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        seed=0,
    )
    started_learner(tiny_backbone, tmp_path, "head", classes=("a", "b"))
    assert "answer 9 and 4 more" in caplog.text
    assert "answer 10" not in caplog.text


@pytest.mark.parametrize(("own", "taken"), [(False, True), (True, False)])
def test_words_of_each_class_are_taken_only_for_the_same_classes(
    tiny_clip_pair: Path, tmp_path: Path, own: bool, taken: bool
) -> None:
    method = f"textual-prompts(per_class={str(own).lower()})"
    trained = _adapter(tiny_clip_pair, method, tmp_path)
    started = started_learner(tiny_clip_pair, tmp_path, method, classes=("c", "a", "b"))
    key = "text.context"
    assert torch.equal(started.trainables[key].parameter, trained.trainables[key].parameter) == taken
    same = started_learner(tiny_clip_pair, tmp_path, method)
    assert torch.equal(same.trainables[key].parameter, trained.trainables[key].parameter)


def test_a_trained_head_is_a_start_for_any_method(tiny_backbone: Path, tmp_path: Path) -> None:
    """Linear probing first, as in Kumar et al., ICLR 2022."""
    trained = _adapter(tiny_backbone, "head", tmp_path)
    started = started_learner(tiny_backbone, tmp_path, "lora")
    assert torch.equal(started.head.weight, trained.head.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "seed", "message"),
    [
        ("lora(rank=4)", 0, "holds 'lora', and the run has method='lora\\(rank=4\\)'"),
        ("vpt-deep", 0, "lora differ"),
    ],
)
def test_another_method_is_refused(tiny_backbone: Path, tmp_path: Path, method: str, seed: int, message: str) -> None:
    _adapter(tiny_backbone, "lora", tmp_path)
    with pytest.raises(ConfigError, match=message):
        started_learner(tiny_backbone, tmp_path, method, seed=seed)


def test_what_the_seed_draws_and_nobody_sends_must_be_the_same(tiny_backbone: Path, tmp_path: Path) -> None:
    for name, method in (("vera", "peft:vera"), ("ffa", "lora(factors='ffa')")):
        _adapter(tiny_backbone, method, tmp_path / name, seed=3)
        with pytest.raises(ConfigError, match="Give the run seed=3"):
            started_learner(tiny_backbone, tmp_path / name, method)
    _adapter(tiny_backbone, "peft:loha", tmp_path / "loha", seed=3)
    started_learner(tiny_backbone, tmp_path / "loha", "peft:loha")


def test_another_backbone_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    _adapter(tiny_backbone, "lora", tmp_path)
    learner = new_learner(tiny_backbone, "lora")
    learner.backbone.fingerprint = "0" * 64
    with pytest.raises(ConfigError, match="this one has 000000000000"):
        load_start(learner, RunConfig(method="lora", start_from=str(tmp_path)))


def test_no_adapter_there(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter there.*at every site"):
        started_learner(tiny_backbone, tmp_path / "nowhere", "lora")


@pytest.mark.parametrize("method", [*(m for m in EVERY_METHOD if suits("vit", m)), "lora(factors='ffa')"])
@torch.no_grad()
def test_a_state_means_the_same_under_another_seed_unless_the_method_says_otherwise(
    tiny_backbone: Path, method: str
) -> None:
    one, other = _nudge(new_learner(tiny_backbone, method, seed=1)), new_learner(tiny_backbone, method, seed=2)
    other.load(one.export(one.manifest()))
    assert torch.equal(one(some_images()), other(some_images())) == (not METHODS.build(method).draws_unsent)
