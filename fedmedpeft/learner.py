"""Backbone + method + task: what is trained at one site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from fedmedpeft.backbones import Backbone, BackboneRecord, load_backbone, skeleton
from fedmedpeft.components import parse_composition
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange.manifest import Manifest, Part, TensorSpec
from fedmedpeft.exchange.peft_state import PeftState
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.tasks import Classification
from fedmedpeft.tasks.classification import new_head

HEAD = "head"


@dataclass(frozen=True)
class Trainable:
    """One exchanged parameter and whose it is: methods' names, or ``head``.

    Two methods may name the same parameter (bitfit and layernorm share biases): it is trained and exchanged once, with
    the step size of the first, and it is personal where either of them is.
    """

    parameter: nn.Parameter
    owners: tuple[str, ...]
    learning_rate: float

    @property
    def owner(self) -> str:
        return self.owners[0]

    @property
    def part(self) -> Part:
        return "head" if self.owner == HEAD else "method"


class Learner(nn.Module):
    """A frozen backbone with methods inserted and a head on top.

    Args:
        backbone: taken over and changed in place.
        method: composition, such as ``lora+vpt-deep``.
        task: gives the number of outputs and the loss.
        seed: of every new parameter.

    Raises:
        ConfigError: an unknown method or option.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: Backbone, method: str, task: Classification, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = task
        device = next(iter(backbone.original_parameters().values())).device
        init = Initialiser(seed, device)
        methods = [(spec.name, METHODS.build(spec)) for spec in parse_composition(method)]
        self.keeps_features = all(built.keeps_features for _, built in methods)
        trainables: dict[str, Trainable] = {}
        for name, built in methods:
            for key, parameter in built.insert(backbone, init).items():
                known = trainables.get(key)
                first = Trainable(parameter, (name,), built.learning_rate)
                trainables[key] = replace(known, owners=(*known.owners, name)) if known else first
        weight = init.normal("head.weight", task.outputs, backbone.hidden_size, std=0.02)
        bias = init.zeros(task.outputs)
        self.head = new_head(backbone.hidden_size, task.outputs, weight, bias)
        trainables["head.weight"] = Trainable(weight, (HEAD,), 0.0)
        trainables["head.bias"] = Trainable(bias, (HEAD,), 0.0)
        for trainable in trainables.values():
            trainable.parameter.requires_grad_(True)
        self.trainables = trainables
        preprocessing = backbone.record.preprocessing
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, device=device).view(1, 3, 1, 1), persistent=False)

    def manifest(self, without: Iterable[str] = ()) -> Manifest:
        """Names and shapes of the exchanged tensors; ``without`` leaves out owners whose tensors stay at the site."""
        left_out = set(without)
        return Manifest.of(
            TensorSpec(name, tuple(trainable.parameter.shape), trainable.part)
            for name, trainable in self.trainables.items()
            if not left_out.intersection(trainable.owners)
        )

    def export(self, manifest: Manifest) -> PeftState:
        """Copy the tensors that ``manifest`` names out of the learner."""
        tensors = {spec.name: self.trainables[spec.name].parameter.detach().cpu().numpy() for spec in manifest.tensors}
        return PeftState.from_tensors(manifest, tensors)

    @torch.no_grad()
    def load(self, *states: PeftState) -> None:
        """Write the tensors of ``states`` in place; nothing else changes and nothing is rebuilt."""
        for state in states:
            for name, values in state.tensors().items():
                self.trainables[name].parameter.copy_(torch.from_numpy(values.copy()))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images [B, 3, S, S] -> features [B, d]."""
        pixels = (images.to(self.mean.device).float() / 255 - self.mean) / self.std
        feature: torch.Tensor = self.backbone(pixels)
        return feature

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images [B, 3, S, S] -> logits [B, C]."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def resolve_device(device: str) -> str:
    """``auto`` becomes the GPU where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def build_learner(config: RunConfig, classes: Sequence[str]) -> Learner:
    """Load the configured backbone and make the learner. Raises ConfigError as the parts do."""
    backbone = load_backbone(
        config.backbone,
        revision=config.backbone_revision,
        image_size=config.image_size,
        device=resolve_device(config.device),
    )
    return Learner(backbone, config.method, Classification(tuple(classes)), config.seed)


def learner_skeleton(record: BackboneRecord, method: str, classes: Sequence[str]) -> Learner:
    """A learner without weights, for counting and for the server's contract."""
    return Learner(skeleton(record), method, Classification(tuple(classes)), seed=0)
