"""A run's ``adapter/``: this project's files, Hugging Face's where it has the method, and how to load them."""

from __future__ import annotations

from pathlib import Path, PurePath

from fedmedpeft.adapter_file import AdapterConfig
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.backbones import EMBEDDED
from fedmedpeft.components import ComponentSpec, Value, parse_spec
from fedmedpeft.exchange import PeftState
from fedmedpeft.hf_adapter import HfFormatError, write_hf_adapter
from fedmedpeft.hf_models import classifier_for
from fedmedpeft.tasks import build_task

README_FILE = "README.md"


def write_companions(directory: Path, saved: AdapterConfig, state: PeftState) -> None:
    """Beside an adapter of ``state`` that was ``saved`` in ``directory``: Hugging Face's files, and the page."""
    write_atomically(directory / README_FILE, readme(saved, _write_hugging_face(directory, saved, state)))


def _write_hugging_face(directory: Path, saved: AdapterConfig, state: PeftState) -> str:
    """Why there are no such files; empty where there are."""
    try:
        write_hf_adapter(directory, saved, state)
    except HfFormatError as error:
        return str(error)
    except Exception as error:
        # The adapter itself is saved; files for another program must not cost a run its end.
        return f"writing it failed ({type(error).__name__}: {error})"
    return ""


def readme(saved: AdapterConfig, reason: str) -> str:
    """The page.

    Args:
        saved: the adapter.
        reason: why there are no files in Hugging Face's format; empty where there are.
    """
    backbone, preprocessing = saved.backbone, saved.backbone.preprocessing
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    personal = (
        f"\nParts that stayed at the sites and are not in it: {', '.join(saved.personal)}." if saved.personal else ""
    )
    remarks = f"\nOf the backbone: {'; '.join(backbone.remarks)}." if backbone.remarks else ""
    knowledge = f"\nRead beside each text: knowledge `{saved.knowledge}`." if saved.knowledge else ""
    synthetic = "\n**Trained on generated images: for tests and demonstrations only.**\n" if saved.synthetic else ""
    return f"""# Adapter{f" of run {saved.run}" if saved.run else ""}
{synthetic}
Task `{saved.task}`: {build_task(saved.task).summary}.
Method `{saved.method}` in backbone `{shown(backbone.name)}`, fingerprint `{saved.fingerprint}`.{knowledge}{remarks}\
{personal}
Research software: not a medical device, and not for decisions about patients.
{_outputs(saved)}
## With fedmedpeft

```python
import fedmedpeft

learner = fedmedpeft.load("DIRECTORY OF THIS FILE")
{_usage(saved)}
```

It checks the backbone's fingerprint. `fedmedpeft merge` makes a plain checkpoint of it where the method allows that.

## With Hugging Face peft

{_hugging_face(saved) if not reason else f"Not in this format: {reason}."}

Images: RGB, {preprocessing.image_size} x {preprocessing.image_size} pixels ({preprocessing.interpolation}), then \
`(x / 255 - mean) / std` with mean ({mean}) and std ({std}).
"""


def shown(backbone: str) -> str:
    """A backbone's name without the directories of the machine that it was on."""
    if "(" not in backbone or PurePath(backbone).is_absolute():
        return str(_without_directories(backbone))
    spec = parse_spec(backbone)
    return str(ComponentSpec(spec.name, {key: _without_directories(value) for key, value in spec.options.items()}))


def _outputs(saved: AdapterConfig) -> str:
    """What each output means; empty where outputs have no names."""
    if not saved.classes:
        return ""
    names = (name.replace("|", "\\|") for name in saved.classes)  # a bare one would end the cell
    rows = "\n".join(f"| {index} | {name} |" for index, name in enumerate(names))
    return f"\n| output | class |\n|---:|---|\n{rows}\n"


def _usage(saved: AdapterConfig) -> str:
    """Lines of code that ask the model, with images as uint8 [B, 3, S, S]."""
    if getattr(saved.backbone.architecture, "text_length", 0):
        return build_task(saved.task).usage
    return "logits = learner(images)  # uint8 images [B, 3, S, S] -> logits [B, C]"


def _without_directories(value: Value) -> Value:
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _hugging_face(saved: AdapterConfig) -> str:
    classifier = classifier_for(saved.backbone.architecture.family)
    assert classifier is not None
    name = classifier.type.__name__
    where = '"DIRECTORY OF THE BACKBONE"' if PurePath(saved.backbone.name).is_absolute() else f'"{saved.backbone.name}"'
    if saved.backbone.name == EMBEDDED:
        where = "embedded_directory()  # from fedmedpeft.backbones.checkpoint_files"
    head = "\nThe head stayed at the sites: the classifier has random weights.\n" if "head" in saved.personal else ""
    return f"""```python
import torch
from peft import PeftModel
from transformers import {name}

backbone = {where}
model = {name}.from_pretrained(backbone, num_labels={len(saved.classes)}, dtype=torch.float32)
model = PeftModel.from_pretrained(model, "DIRECTORY OF THIS FILE").eval()
```
{head}
transformers says that the classifier is newly initialised; the adapter then brings the trained one. The backbone
must be the one named above, at its own image size: peft cannot check either."""
