"""Backbone + method + task: what is trained at one site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from fedmedpeft.backbones import Backbone, BackboneRecord, MissingPlace, load_backbone, skeleton
from fedmedpeft.components import ConfigError, parse_composition
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange.manifest import Manifest, Part, TensorSpec
from fedmedpeft.exchange.peft_state import PeftState
from fedmedpeft.methods import METHODS, Initialiser, Method, Rotation
from fedmedpeft.tasks import Task, build_task
from fedmedpeft.text import Text

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
    """A frozen backbone with methods inserted and a head on top, in evaluation mode until training begins.

    Args:
        backbone: taken over and changed in place.
        method: composition, such as ``lora+vpt-deep``.
        task: gives the head and the loss.
        seed: of every new parameter.

    Raises:
        ConfigError: an unknown method or option, or one that the backbone or the task cannot have.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: Backbone, method: str, task: Task, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = task
        task.check_backbone(backbone)
        device = next(iter(backbone.original_parameters().values())).device
        init = Initialiser(seed, device)
        methods = [(spec.name, METHODS.build(spec)) for spec in parse_composition(method)]
        self.methods = tuple(methods)
        self.keeps_features = all(built.keeps_features for _, built in methods)
        trainables: dict[str, Trainable] = {}
        for name, built in methods:
            for key, parameter in _insert(name, built, backbone, init).items():
                known = trainables.get(key)
                first = Trainable(parameter, (name,), built.learning_rate)
                trainables[key] = replace(known, owners=(*known.owners, name)) if known else first
        self.head = self._make_head(methods, init, trainables)
        if not trainables:
            raise ConfigError(f"method='{method}' trains a head alone; task='{task.name}' has none. Choose another.")
        _refuse_idle(method, trainables, backbone.hidden())
        for trainable in trainables.values():
            trainable.parameter.requires_grad_(True)
        self.trainables = trainables
        self.rotation = _rotation(methods, trainables)
        self._kept_at_start = {name: tensor.clone() for name, tensor in backbone.kept().items()}
        preprocessing = backbone.record.preprocessing
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values, device=device).view(1, 3, 1, 1), persistent=False)
        self.eval()

    def _make_head(
        self, methods: Sequence[tuple[str, Method]], init: Initialiser, trainables: dict[str, Trainable]
    ) -> nn.Module:
        """The head of the one method that brings its own, or the task's; what it trains joins ``trainables``."""
        own = {}
        for name, built in methods:
            made = built.make_head(self.backbone, self.task.classes, init)
            if made is not None:
                own[name] = made
                rate = built.learning_rate
                trainables.update({key: Trainable(parameter, (name,), rate) for key, parameter in made[1].items()})
        if len(own) > 1:
            raise ConfigError(f"method: {' and '.join(own)} each bring a head of their own. Keep one of them.")
        if own and not self.task.replaceable_head:
            raise ConfigError(
                f"method='{next(iter(own))}' brings a head of its own, in which task='{self.task.name}' cannot be "
                "learnt. Choose another method, or task='classification'."
            )
        if own:
            return next(iter(own.values()))[0]
        head, parameters = self.task.make_head(self.backbone, init)
        trainables.update({key: Trainable(parameter, (HEAD,), 0.0) for key, parameter in parameters.items()})
        return head

    def manifest(self, without: Iterable[str] = ()) -> Manifest:
        """Names and shapes of the exchanged tensors; ``without`` leaves out owners whose tensors stay at the site.

        Raises:
            ConfigError: the head is to stay, and a method's own tensors are the head.
        """
        left_out = set(without)
        if HEAD in left_out and not any(HEAD in trainable.owners for trainable in self.trainables.values()):
            raise ConfigError(
                "personal='head': this method brings a head of its own, so there is no other. Name the method instead."
            )
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

    def kept(self) -> dict[str, torch.Tensor]:
        """What training moves beside the trainables, by canonical name: statistics of a site, which never leave it."""
        return self.backbone.kept()

    @torch.no_grad()
    def load_kept(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write what one site keeps in place; what ``tensors`` does not have goes back to where it started."""
        for name, tensor in self.kept().items():
            tensor.copy_(tensors.get(name, self._kept_at_start[name]))

    @contextmanager
    def taking_turns(self, groups: Iterable[str]) -> Iterator[None]:
        """Within, of the rotation only ``groups`` train: the others get no gradients, so no optimiser moves them."""
        resting = [self.trainables[name].parameter for name in self.rotation.resting(groups)]
        try:
            for parameter in resting:
                parameter.requires_grad_(False)
            yield
        finally:
            # The learner is shared in simulation: the next visit must find it as it was.
            for parameter in resting:
                parameter.requires_grad_(True)

    def pixels(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images [B, 3, S, S] as the backbone wants them: normalised, and on its device."""
        return (images.to(self.mean.device).float() / 255 - self.mean) / self.std

    def features(self, images: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """uint8 images [B, 3, S, S], and texts [B] where the backbone reads them -> features [B, d]."""
        device = self.mean.device
        read = None if text is None else text.to(device), None if knowledge is None else knowledge.to(device)
        feature: torch.Tensor = self.backbone(self.pixels(images), *read)
        return feature

    def forward(self, images: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """uint8 images [B, 3, S, S], and texts [B] where the backbone reads them -> the head's outputs [B, C]."""
        outputs: torch.Tensor = self.head(self.features(images, text, knowledge))
        return outputs


class UnsuitableBackbone(ConfigError):  # noqa: N818 - it names what is wrong
    """A method acts on something that the backbone, or what ``where`` names of it, lacks; ``needs`` says on what."""

    def __init__(self, method: str, record: BackboneRecord, missing: MissingPlace, where: Sequence[str]) -> None:
        self.needs = missing.place
        within = f" in where='{','.join(where)}'" if where else ""
        super().__init__(
            f"method='{method}' acts on '{missing.place}', which backbone '{record.name}' (a "
            f"{record.architecture.family}) does not have{within}. {missing.remedy}"
        )


def _insert(name: str, method: Method, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
    parts = method.options.parts
    for part in parts:
        if part not in backbone.parts:
            known = ", ".join(backbone.parts)
            raise ConfigError(
                f"method='{name}(where={part})': backbone '{backbone.record.name}' has no network '{part}', only "
                f"{known}."
            )
    try:
        with backbone.within(parts or backbone.parts):
            return method.insert(backbone, init)
    except MissingPlace as missing:
        raise UnsuitableBackbone(name, backbone.record, missing, parts) from None


def _refuse_idle(method: str, trainables: Mapping[str, Trainable], hidden: Iterable[str]) -> None:
    """Raise ConfigError where what one method trains lies under a layer of another that lets no gradient through."""
    for key in sorted(trainables.keys() & set(hidden)):
        raise ConfigError(
            f"method='{method}': '{trainables[key].owner}' trains '{key}', which no gradient reaches under the layer "
            "that a peft:... puts there. Leave one of them out, or give them different targets."
        )


def _rotation(methods: Sequence[tuple[str, Method]], trainables: Mapping[str, Trainable]) -> Rotation:
    """The rotation of the one method that has one; without, nothing takes turns.

    What another method trains as well is trained in every round, as that method promises.
    """
    found: dict[str, Rotation] = {}
    for name, built in methods:
        keys = [key for key, trainable in trainables.items() if name in trainable.owners]
        rotation = built.rotation(keys)
        if rotation:
            found[name] = rotation.without(key for key in keys if trainables[key].owners != (name,))
            empty = [group for group, left in found[name].groups.items() if not left]
            if empty:
                raise ConfigError(
                    f"method: '{name}' has nothing left to train in {empty[0]}, all of which another method trains in "
                    "every round. Keep one of them."
                )
    if len(found) > 1:
        raise ConfigError(f"method: {' and '.join(found)} each train another part in each round. Keep one of them.")
    return next(iter(found.values()), Rotation())


def resolve_device(device: str) -> str:
    """``auto`` becomes the GPU where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def build_learner(config: RunConfig, classes: Sequence[str], backbone: Backbone | None = None) -> Learner:
    """The configured learner, around ``backbone`` where it is loaded already. Raises ConfigError as the parts do."""
    task = build_task(config.task, classes)
    return Learner(backbone or load_configured(config), config.method, task, config.seed)


def load_configured(config: RunConfig) -> Backbone:
    """The configured backbone, nothing inserted yet. Raises ConfigError as :func:`load_backbone` does."""
    return load_backbone(
        config.backbone,
        revision=config.backbone_revision,
        image_size=config.image_size,
        device=resolve_device(config.device),
    )


def learner_skeleton(
    record: BackboneRecord, method: str, classes: Sequence[str], task: str = "classification"
) -> Learner:
    """A learner without weights, for counting and for the server's contract."""
    return Learner(skeleton(record), method, build_task(task, classes), seed=0)
