from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedmedpeft.adapter_file import CONFIG_FILE, HF_CONFIG_FILE, TENSORS_FILE, read_adapter, save_adapter
from fedmedpeft.backbones import standard_record
from fedmedpeft.components import ConfigError
from fedmedpeft.exchange import Manifest, PeftState, TensorSpec

RECORD = standard_record("ti")


@pytest.fixture
def state() -> PeftState:
    specs = [TensorSpec("blocks.0.q.lora_A", (2, 3), "method"), TensorSpec("head.bias", (4,), "head")]
    manifest = Manifest.of(specs)
    values = np.random.default_rng(0)
    return PeftState.from_tensors(manifest, {s.name: values.standard_normal(s.shape) for s in manifest.tensors})


@pytest.fixture
def saved(tmp_path: Path, state: PeftState) -> Path:
    save_adapter(
        tmp_path,
        state,
        method="lora(rank=2)",
        classes=("a", "b", "c", "d"),
        backbone=RECORD,
        fingerprint="f" * 64,
        personal=("head",),
        synthetic=True,
        run="a-run",
    )
    return tmp_path


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", ""), ("open(path=/data/ours, concepts=5)", "open(concepts=5)"), ("umls(path='mrconso.csv')", "umls")],
)
def test_knowledge_is_recorded_without_where_it_lies(tmp_path: Path, state: PeftState, given: str, kept: str) -> None:
    named = {"method": "lora", "classes": ("a", "b", "c", "d"), "backbone": RECORD, "fingerprint": "f" * 64}
    save_adapter(tmp_path, state, knowledge=given, **named)  # type: ignore[arg-type]
    assert read_adapter(tmp_path).config.knowledge == kept


def test_what_was_saved_is_read_back(saved: Path, state: PeftState) -> None:
    adapter = read_adapter(saved)
    assert adapter.state.hash() == state.hash()
    assert adapter.config.method == "lora(rank=2)"
    assert adapter.config.classes == ("a", "b", "c", "d")
    assert adapter.config.backbone == RECORD
    assert adapter.config.fingerprint == "f" * 64
    assert (adapter.config.personal, adapter.config.synthetic, adapter.config.run) == (("head",), True, "a-run")
    assert set(load((saved / TENSORS_FILE).read_bytes())) == {"blocks.0.q.lora_A", "head.bias"}


def _edit(**changes: Any) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        path = directory / CONFIG_FILE
        content = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not ...}))

    return act


def _rewrite(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def act(directory: Path) -> None:
        tensors = load((directory / TENSORS_FILE).read_bytes())
        change(tensors)
        (directory / TENSORS_FILE).write_bytes(save(tensors))

    return act


def _flip_last_bit(directory: Path) -> None:
    content = bytearray((directory / TENSORS_FILE).read_bytes())
    content[-1] ^= 1
    (directory / TENSORS_FILE).write_bytes(bytes(content))


def _becomes_a_hugging_face_adapter(directory: Path) -> None:
    (directory / CONFIG_FILE).unlink()
    (directory / HF_CONFIG_FILE).write_text('{"peft_type": "LORA"}')


def test_an_adapter_of_before_there_were_tasks_is_a_classifier(saved: Path) -> None:
    _edit(format_version=2, task=...)(saved)
    assert read_adapter(saved).config.task == "classification"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / CONFIG_FILE).unlink(), "cannot be read"),
        (lambda d: (d / CONFIG_FILE).write_text("{"), "not JSON"),
        (lambda d: (d / CONFIG_FILE).write_text("[]"), "not written by fedmedpeft;"),
        (lambda d: (d / CONFIG_FILE).rename(d / HF_CONFIG_FILE), "older format, written by fedmedpeft 0"),
        (_becomes_a_hugging_face_adapter, "Hugging Face PEFT adapter.*start-from="),
        (_edit(format_version=4), "format_version=4; .* reads format_version=2 or 3"),
        (_edit(format_version=..., fedmedpeft="0.0.1"), "version that wrote it: 0.0.1"),
        (_edit(classes=...), "damaged: 'classes' is missing"),
        (_edit(surprise=1), "damaged: surprise"),
        (_edit(manifest_hash="0"), "not those that"),
        (lambda d: (d / TENSORS_FILE).unlink(), "cannot be read"),
        (lambda d: (d / TENSORS_FILE).write_bytes(b"x" * 40), "cannot be read"),
        (_flip_last_bit, "not those that were saved"),
        (_rewrite(lambda tensors: tensors.pop("head.bias")), "not those that"),
        (_rewrite(lambda tensors: tensors.update(extra=np.zeros(1, np.float32))), "not those that"),
        (_rewrite(lambda tensors: tensors.update({"head.bias": np.zeros(5, np.float32)})), "has shape"),
    ],
)
def test_what_is_wrong_is_refused_with_the_file_and_a_way_out(
    saved: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(saved)
    with pytest.raises(ConfigError, match=message) as caught:
        read_adapter(saved)
    assert str(saved) in str(caught.value)
