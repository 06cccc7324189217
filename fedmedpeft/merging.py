"""Training folded into the backbone's own weights, for good: a plain Hugging Face checkpoint, without this project."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fedmedpeft.backbones import Inserted, NotMergeable, Place, load_backbone
from fedmedpeft.backbones.backbone import ROLES
from fedmedpeft.components import ConfigError, parse_composition
from fedmedpeft.hf_models import HfClassifier, classifier_for, new_classifier
from fedmedpeft.learner import Learner
from fedmedpeft.methods import METHODS

_RESAMPLING = {"bilinear": 2, "bicubic": 3}


def merge(learner: Learner, method: str) -> PreTrainedModel:
    """The published classification model that computes the learner's logits.

    Args:
        learner: trained; it stays as it is.
        method: the composition that it was made with.

    Raises:
        ConfigError: a part of ``method`` is no plain weight, or no published model computes the same.
    """
    family = learner.backbone.record.architecture.family
    classifier = classifier_for(family)
    if classifier is None:
        raise ConfigError(
            f"A {family} backbone cannot be merged: no image classifier of transformers reads its feature."
        )
    for spec in parse_composition(method):
        if not METHODS.build(spec).mergeable and spec.name != "head":
            raise ConfigError(f"'{spec.name}' cannot be merged: what it computes is no plain weight of the backbone.")
    tensors = _backbone_tensors(learner, classifier) | _head_tensors(learner, classifier)
    model = new_classifier(classifier, learner.backbone.record, learner.task.classes).to_empty(device="cpu")
    expected = model.state_dict()
    differ = sorted(name for name in expected.keys() | tensors.keys() if not _fits(expected, tensors, name))
    if differ:
        raise ConfigError(
            f"'{method}' cannot be merged: '{differ[0]}' and {len(differ) - 1} other tensors do not fit "
            f"{classifier.type.__name__}."
        )
    model.load_state_dict(tensors)
    model.eval()
    return model


def save_merged(learner: Learner, method: str, directory: Path, *, source: str, synthetic: bool) -> str:
    """Write :func:`merge`'s model as a checkpoint, whole or not at all.

    Args:
        learner, method: as for :func:`merge`.
        directory: must not exist.
        source: what was merged, in words, for the page that goes with it.
        synthetic: trained on generated images.

    Returns:
        The fingerprint of the merged backbone, which is another one.

    Raises:
        ConfigError: also where ``directory`` exists or cannot be written.
    """
    if directory.exists():
        raise ConfigError(f"'{directory}' exists. Nothing is overwritten: choose another directory.")
    model = merge(learner, method)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    except OSError as error:
        raise ConfigError(f"'{directory}' cannot be written ({error.strerror}).") from None
    try:
        model.save_pretrained(partial)
        (partial / "preprocessor_config.json").write_text(json.dumps(_preprocessor(learner), indent=2) + "\n", "utf-8")
        mark = load_backbone(str(partial)).fingerprint
        page = _readme(learner, type(model).__name__, source, mark, synthetic)
        (partial / "README.md").write_text(page, "utf-8")
        partial.chmod(0o755)  # temporary directories are for their owner only
        os.rename(partial, directory)  # noqa: PTH104  # fails where the directory has come to be meanwhile
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return mark


def _backbone_tensors(learner: Learner, classifier: HfClassifier) -> dict[str, torch.Tensor]:
    """Every parameter and statistic by the classification model's names, with what was inserted folded in."""
    backbone = learner.backbone
    names = {key: backbone.published_name(key) for key in backbone.original_parameters()}
    tensors = {names[key]: parameter for key, parameter in backbone.original_parameters().items()}
    for place in backbone.places(optional=ROLES):
        for name, tensor in _merged(place).state_dict().items() if _carries(place) else ():
            key = f"{place.key}.{name}"
            stem, _, own = name.rpartition(".")
            sibling = names.get(".".join(filter(None, (place.key, stem, "weight"))), "")
            tensors[names.get(key) or sibling.removesuffix("weight") + own] = tensor
    return {classifier.backbone + name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _carries(place: Place) -> bool:
    """Whether something was inserted here, or there are statistics beside the parameters."""
    return isinstance(place.current, Inserted) or place.role == "batchnorm"


def _merged(place: Place) -> nn.Module:
    """What the place computes, as a plain module, from the inside out."""
    layers: list[Inserted] = []
    module = place.current
    while isinstance(module, Inserted):
        layers.append(module)
        module = module.base
    for layer in reversed(layers):
        try:
            module = layer.merged(module)
        except NotMergeable as error:
            raise ConfigError(f"'{place.key}' cannot be merged: {error} is no plain weight.") from None
    return module


def _head_tensors(learner: Learner, classifier: HfClassifier) -> dict[str, torch.Tensor]:
    if not isinstance(learner.head, nn.Linear):
        raise ConfigError(f"The head ({type(learner.head).__name__}) cannot be merged: it is not one linear layer.")
    return {f"{classifier.head}.{name}": tensor.detach().cpu() for name, tensor in learner.head.state_dict().items()}


def _fits(expected: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor], name: str) -> bool:
    return name in expected and name in tensors and expected[name].shape == tensors[name].shape


def _preprocessor(learner: Learner) -> dict[str, Any]:
    """As Hugging Face's image processors read it."""
    said = learner.backbone.record.preprocessing
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": said.image_size, "width": said.image_size},
        "resample": _RESAMPLING[said.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(said.mean),
        "image_std": list(said.std),
    }


def _readme(learner: Learner, kind: str, source: str, fingerprint: str, synthetic: bool) -> str:
    warning = "**Trained on generated images: for tests and demonstrations only.**\n\n" if synthetic else ""
    return f"""# Merged model

{warning}Made by fedmedpeft: {source}, folded into the weights of backbone fingerprint
`{learner.backbone.fingerprint}`. Merged, the backbone has fingerprint `{fingerprint}`: adapters of the one do not fit
the other. Research software: not a medical device, and not for decisions about patients.

Classes: {", ".join(f"{index} {name}" for index, name in enumerate(learner.task.classes))}

```python
from transformers import {kind}

model = {kind}.from_pretrained("DIRECTORY OF THIS FILE")
```

For fedmedpeft it is a backbone like any other, without its classifier: `backbone = "DIRECTORY OF THIS FILE"`.
"""
