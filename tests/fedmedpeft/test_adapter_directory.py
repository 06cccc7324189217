from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import ViTForImageClassification

import fedmedpeft
from fedmedpeft import adapter_directory
from fedmedpeft.adapter_directory import readme, shown, write_companions
from fedmedpeft.adapter_file import AdapterConfig, save_adapter
from fedmedpeft.backbones import EMBEDDED, load_backbone
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification

_OURS = {"fedmedpeft_adapter.json", "fedmedpeft_adapter.safetensors", "README.md"}
_HUGGING_FACE = {"adapter_config.json", "adapter_model.safetensors"}


def _write(backbone: str, method: str, directory: Path) -> tuple[Learner, AdapterConfig]:
    learner = Learner(load_backbone(backbone), method, Classification(("cyst", "tumour")), 0).eval()
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05
    state = learner.export(learner.manifest())
    saved = save_adapter(
        directory,
        state,
        method=method,
        classes=learner.task.classes,
        backbone=learner.backbone.record,
        fingerprint=learner.backbone.fingerprint,
        synthetic=True,
        run="a-run",
    )
    write_companions(directory, saved, state)
    return learner, saved


@torch.no_grad()
def test_both_formats_side_by_side(tmp_path: Path) -> None:
    """With the page's own lines, on the backbone that ships with the package."""
    learner, _ = _write(EMBEDDED, "lora", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == _OURS | _HUGGING_FACE
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    expected = learner(images)
    assert torch.equal(fedmedpeft.load(tmp_path, device="cpu")(images), expected)
    page = (tmp_path / "README.md").read_text()
    code = page.split("```python\n")[2].split("```")[0].replace("DIRECTORY OF THIS FILE", str(tmp_path))
    names: dict[str, object] = {}
    exec("from fedmedpeft.backbones.checkpoint_files import embedded_directory\n" + code, names)
    model = names["model"]
    assert isinstance(model, PeftModel)
    assert isinstance(model.get_base_model(), ViTForImageClassification)
    pixels = (images.float() / 255 - learner.mean) / learner.std
    torch.testing.assert_close(model(pixel_values=pixels).logits, expected, atol=1e-6, rtol=1e-5)


def test_the_page_says_what_one_must_know(tiny_backbone: Path, tmp_path: Path) -> None:
    _write(str(tiny_backbone), "lora", tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert all(text in page for text in ("| 1 | tumour |", "a-run", "generated images", "32 x 32", "(0.4, 0.5, 0.6)"))
    assert str(tiny_backbone.parent) not in page


def test_the_page_says_why_there_is_nothing_for_hugging_face(tiny_backbone: Path, tmp_path: Path) -> None:
    _write(str(tiny_backbone), "vpt-deep", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == _OURS
    page = (tmp_path / "README.md").read_text()
    assert "Not in this format: Hugging Face peft has no method that is 'vpt-deep'." in page
    assert "PeftModel" not in page


def test_a_failure_of_the_other_format_does_not_lose_the_adapter(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(adapter_directory, "write_hf_adapter", fail)
    _write(str(tiny_backbone), "lora", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == _OURS
    assert "MemoryError" in (tmp_path / "README.md").read_text()
    fedmedpeft.load(tmp_path, device="cpu")


def test_a_head_that_stayed_at_the_sites_is_said(tiny_backbone: Path, tmp_path: Path) -> None:
    _, saved = _write(str(tiny_backbone), "lora", tmp_path)
    assert "random weights" in readme(saved.model_copy(update={"personal": ("head",)}), "")
    assert "random weights" not in readme(saved, "")


def test_random_weights_of_a_backbone_are_said(tiny_meter: str, tmp_path: Path) -> None:
    _write(tiny_meter, "lora(where=fusion)", tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "Of the backbone: fusion layers random (fusion_seed=0)." in page
    assert str(Path(tiny_meter.split("'")[1]).parent) not in page


def test_tasks_answers_and_knowledge_on_the_page(tiny_backbone: Path, tmp_path: Path) -> None:
    _, saved = _write(str(tiny_backbone), "lora", tmp_path)
    answers = {"task": "vqa", "classes": ("left | right", "no"), "knowledge": "open(concepts=5)"}
    page = readme(saved.model_copy(update=answers), "no such model")
    assert "Task `vqa`: the answer to a question about an image" in page
    assert "| 0 | left \\| right |" in page
    assert "knowledge `open(concepts=5)`" in page
    unnamed = readme(saved.model_copy(update={"task": "retrieval", "classes": ()}), "no such model")
    assert "| output | class |" not in unnamed


@pytest.mark.parametrize(("task", "gives"), [("vqa", "logits"), ("retrieval", "scores"), ("generation", "answers")])
def test_the_page_asks_as_the_task_answers(tiny_meter: str, tmp_path: Path, task: str, gives: str) -> None:
    _, saved = _write(tiny_meter, "lora(where=fusion)", tmp_path)
    assert f"\n{gives} = learner" in readme(saved.model_copy(update={"task": task}), "no such model")


def test_names_of_backbones_without_directories_of_a_machine() -> None:
    assert shown("google/vit-base-patch16-224") == "google/vit-base-patch16-224"
    assert shown("/home/someone/models/vit") == "vit"
    assert shown("meter(vision=embedded, text='/home/someone/bert', depth=2)") == (
        "meter(vision='embedded', text='bert', depth=2)"
    )


@torch.no_grad()
def test_the_page_says_how_texts_are_read(tiny_meter: str, tmp_path: Path) -> None:
    """With the page's own lines; other programs have no such network, which the page says too."""
    learner, _ = _write(tiny_meter, "kpl", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == _OURS
    page = (tmp_path / "README.md").read_text()
    assert "Not in this format: no image classifier of transformers reads meter's feature" in page
    code = page.split("```python\n")[1].split("```")[0].replace("DIRECTORY OF THIS FILE", str(tmp_path))
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    names: dict[str, object] = {"images": images}
    exec(code, names)
    assert learner.backbone.tokenizer is not None
    text = learner.backbone.tokenizer.encode(["is there a fracture?"], 20)
    assert isinstance(names["logits"], torch.Tensor)
    torch.testing.assert_close(names["logits"].cpu(), learner(images, text), atol=1e-5, rtol=1e-5)
