from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification

from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS
from fedmedpeft.starting_state import load_start
from fedmedpeft.tasks import Classification
from tests.every_method import EVERY_METHOD, suits

_CLASSES = ("a", "b", "c")


def _learner(backbone: Path, method: str, seed: int = 0, classes: tuple[str, ...] = _CLASSES) -> Learner:
    return Learner(load_backbone(str(backbone)), method, Classification(classes), seed).eval()


def _nudge(learner: Learner) -> Learner:
    for index, trainable in enumerate(learner.trainables.values()):
        shape = trainable.parameter.shape
        trainable.parameter.data += 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(index))
    return learner


def _adapter(backbone: Path, method: str, directory: Path, personal: tuple[str, ...] = (), seed: int = 0) -> Learner:
    learner = _nudge(_learner(backbone, method, seed))
    save_adapter(
        directory,
        learner.export(learner.manifest(without=personal)),
        method=method,
        classes=_CLASSES,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        personal=personal,
        seed=seed,
    )
    return learner


def _started(backbone: Path, directory: Path, method: str, **more: Any) -> Learner:
    seed, classes = more.pop("seed", 0), more.pop("classes", _CLASSES)
    learner = _learner(backbone, method, seed, classes)
    load_start(learner, RunConfig(method=method, start_from=str(directory), seed=seed))
    return learner


def _images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_nothing_is_done_where_nothing_is_asked_for(tiny_backbone: Path) -> None:
    learner = _learner(tiny_backbone, "lora")
    before = learner.export(learner.manifest()).hash()
    load_start(learner, RunConfig(method="lora"))
    assert learner.export(learner.manifest()).hash() == before


@pytest.mark.parametrize("method", ["lora(rank=2)", "lora+vpt-deep", "peft:vera"])
def test_every_site_starts_from_the_adapter(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    trained = _adapter(tiny_backbone, method, tmp_path / "adapter")
    for path in (tmp_path, tmp_path / "adapter"):
        started = _started(tiny_backbone, path, method)
        assert started.export(started.manifest()).hash() == trained.export(trained.manifest()).hash()
        with torch.no_grad():
            assert torch.equal(started(_images()), trained(_images()))


def test_what_the_adapter_lacks_starts_as_always(
    tiny_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = _adapter(tiny_backbone, "lora+layernorm", tmp_path, personal=("layernorm",))
    with caplog.at_level(logging.INFO, "fedmedpeft.site"):
        started = _started(tiny_backbone, tmp_path, "lora+layernorm+vpt-deep", seed=7)
    usual = _learner(tiny_backbone, "lora+layernorm+vpt-deep", seed=7)
    for name, trainable in started.trainables.items():
        source = trained if trainable.owner in ("lora", "head") else usual
        assert torch.equal(trainable.parameter, source.trainables[name].parameter), name
    assert "new: layernorm, vpt-deep" in caplog.text


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "c", "b")])
def test_the_head_is_taken_only_for_the_same_classes(
    tiny_backbone: Path, tmp_path: Path, classes: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    trained = _adapter(tiny_backbone, "lora", tmp_path)
    started = _started(tiny_backbone, tmp_path, "lora", classes=classes)
    usual = _learner(tiny_backbone, "lora", classes=classes)
    assert torch.equal(started.head.weight, usual.head.weight)  # type: ignore[arg-type]
    name = "blocks.0.q.lora_B"
    assert torch.equal(started.trainables[name].parameter, trained.trainables[name].parameter)
    assert "The head starts anew: the adapter's classes are a, b, c" in caplog.text


def test_of_very_many_classes_the_first_few_are_said(
    tiny_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = _learner(tiny_backbone, "head", classes=tuple(f"answer {i}" for i in range(14)))
    save_adapter(
        tmp_path,
        learner.export(learner.manifest()),
        method="head",
        classes=learner.task.classes,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        seed=0,
    )
    _started(tiny_backbone, tmp_path, "head", classes=("a", "b"))
    assert "answer 9 and 4 more" in caplog.text
    assert "answer 10" not in caplog.text


@pytest.mark.parametrize(("own", "taken"), [(False, True), (True, False)])
def test_words_of_each_class_are_taken_only_for_the_same_classes(
    tiny_clip_pair: Path, tmp_path: Path, own: bool, taken: bool
) -> None:
    method = f"textual-prompts(per_class={str(own).lower()})"
    trained = _adapter(tiny_clip_pair, method, tmp_path)
    started = _started(tiny_clip_pair, tmp_path, method, classes=("c", "a", "b"))
    key = "text.context"
    assert torch.equal(started.trainables[key].parameter, trained.trainables[key].parameter) == taken
    same = _started(tiny_clip_pair, tmp_path, method)
    assert torch.equal(same.trainables[key].parameter, trained.trainables[key].parameter)


def test_a_trained_head_is_a_start_for_any_method(tiny_backbone: Path, tmp_path: Path) -> None:
    """Linear probing first, as in Kumar et al., ICLR 2022."""
    trained = _adapter(tiny_backbone, "head", tmp_path)
    started = _started(tiny_backbone, tmp_path, "lora")
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
        _started(tiny_backbone, tmp_path, method, seed=seed)


def test_what_the_seed_draws_and_nobody_sends_must_be_the_same(tiny_backbone: Path, tmp_path: Path) -> None:
    _adapter(tiny_backbone, "peft:vera", tmp_path / "vera", seed=3)
    with pytest.raises(ConfigError, match="Give the run seed=3"):
        _started(tiny_backbone, tmp_path / "vera", "peft:vera")
    _adapter(tiny_backbone, "peft:loha", tmp_path / "loha", seed=3)
    _started(tiny_backbone, tmp_path / "loha", "peft:loha")


def test_another_backbone_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    _adapter(tiny_backbone, "lora", tmp_path)
    learner = _learner(tiny_backbone, "lora")
    learner.backbone.fingerprint = "0" * 64
    with pytest.raises(ConfigError, match="this one has 000000000000"):
        load_start(learner, RunConfig(method="lora", start_from=str(tmp_path)))


def test_no_adapter_there(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter there.*at every site"):
        _started(tiny_backbone, tmp_path / "nowhere", "lora")


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


@pytest.mark.parametrize("method", ["lora(rank=4, alpha=12)", "peft:lora(r=4, lora_alpha=12)+layernorm"])
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
    started = _started(tiny_backbone, directory, method)
    pixels = (_images().float() / 255 - started.mean) / started.std
    expected = model.base_model.model.vit(pixel_values=pixels).last_hidden_state[:, 0]  # type: ignore[union-attr, operator]
    torch.testing.assert_close(started.features(_images()), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(started.head.weight, _learner(tiny_backbone, method).head.weight)  # type: ignore[arg-type]
    assert "does not say what its classes are" in caplog.text


@pytest.mark.parametrize("method", ["lora", "lora(rank=4, alpha=12, targets='q,k')", "peft:rslora(r=4, lora_alpha=12)"])
def test_the_method_to_write_is_said(tiny_backbone: Path, hf_lora: tuple[torch.nn.Module, Path], method: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _started(tiny_backbone, hf_lora[1], method)
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
        _started(tiny_backbone, hf_lora[1], "lora(rank=4, alpha=12)")


@torch.no_grad()
def test_rslora_too(tiny_backbone: Path, hf_lora: tuple[torch.nn.Module, Path]) -> None:
    _configure(use_rslora=True)(hf_lora[1])
    started = _started(tiny_backbone, hf_lora[1], "peft:rslora(r=4, lora_alpha=12)")
    tensor = load_file(hf_lora[1] / "adapter_model.safetensors")
    name = "base_model.model.vit.layers.0.attention.q_proj.lora_A.weight"
    assert torch.equal(started.trainables["blocks.0.q.peft.lora_A.weight"].parameter, tensor[name])


@pytest.mark.parametrize("method", [m for m in EVERY_METHOD if suits("vit", m)])
@torch.no_grad()
def test_a_state_means_the_same_under_another_seed_unless_the_method_says_otherwise(
    tiny_backbone: Path, method: str
) -> None:
    one, other = _nudge(_learner(tiny_backbone, method, seed=1)), _learner(tiny_backbone, method, seed=2)
    other.load(one.export(one.manifest()))
    assert torch.equal(one(_images()), other(_images())) == (not METHODS.build(method).draws_unsent)
