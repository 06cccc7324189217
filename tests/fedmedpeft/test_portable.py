from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fedmedpeft
from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification
from tests.every_method import BACKBONES, EVERY_METHOD, cases, texts

_COMPOSED = ["lora(rank=2)+vpt-deep(tokens=3)", "lora(factors='ffa')", "lora(factors='rolora')"]


def _trained(directory: Path, method: str, seed: int = 4) -> Learner:
    learner = Learner(load_backbone(str(directory)), method, Classification(("a", "b")), seed)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.1
    return learner.eval()


def _save(learner: Learner, method: str, directory: Path, personal: tuple[str, ...] = (), knowledge: str = "") -> None:
    save_adapter(
        directory,
        learner.export(learner.manifest(without=personal)),
        method=method,
        classes=learner.task.classes,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        personal=personal,
        knowledge=knowledge,
        seed=4,
    )


@pytest.mark.parametrize(("backbone", "method"), cases([*EVERY_METHOD, *_COMPOSED]))
def test_outputs_are_those_of_the_run(
    tmp_path: Path, backbone: str, method: str, request: pytest.FixtureRequest
) -> None:
    learner = _trained(request.getfixturevalue(BACKBONES[backbone]), method)
    _save(learner, method, tmp_path)
    inputs = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8), *texts(learner, 3)
    with torch.no_grad():
        torch.testing.assert_close(fedmedpeft.load(tmp_path)(*inputs), learner(*inputs), atol=1e-6, rtol=1e-6)


def test_knowledge_that_it_was_trained_with_is_said(
    tiny_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = _trained(tiny_backbone, "lora")
    for knowledge, said in (("", 0), ("open(path=/data, concepts=5)", 1)):
        _save(learner, "lora", tmp_path, knowledge=knowledge)
        fedmedpeft.load(tmp_path, device="cpu")
        assert caplog.text.count("trained with knowledge='open(concepts=5)'") == said


def test_personal_parts_are_not_in_the_adapter(tiny_backbone: Path, tmp_path: Path) -> None:
    learner = _trained(tiny_backbone, "lora")
    _save(learner, "lora", tmp_path, personal=("head",))
    loaded = fedmedpeft.load(tmp_path, device="cpu")
    assert not torch.equal(loaded.head.weight, learner.head.weight)
    torch.testing.assert_close(loaded.head.weight, learner.head.weight - 0.1)
    name = "blocks.0.q.lora_B"
    assert torch.equal(loaded.trainables[name].parameter, learner.trainables[name].parameter)


def test_another_backbone_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    learner = _trained(tiny_backbone, "lora")
    learner.backbone.fingerprint = "0" * 64
    _save(learner, "lora", tmp_path)
    with pytest.raises(ConfigError, match="fingerprint 000000000000"):
        fedmedpeft.load(tmp_path)


def test_importing_the_package_does_not_import_torch() -> None:
    program = "import sys, fedmedpeft; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = fedmedpeft.lod  # type: ignore[attr-defined]
