"""What there is to choose from: configuration keys, methods, and what each method costs on a backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig

if TYPE_CHECKING:  # torch is only loaded where something is counted
    from fedmedpeft.backbones import BackboneRecord
    from fedmedpeft.learner import Learner

_AVERAGING = ("exact", "factors", "no")
_SIZES = {"vit-ti": "ti", "vit-s": "s", "vit-b": "b", "vit-l": "l"}
_METER = "meter-b"


@dataclass(frozen=True)
class Setting:
    """One key, or one option of a component."""

    key: str
    type: str
    default: bool | int | float | str
    meaning: str


@dataclass(frozen=True)
class MethodCost:
    """A method on a backbone.

    Args:
        name: composition.
        summary, source: of the methods in it.
        averaging: what the mean of several sites' states is, for the method in it of which it says least: ``exact``,
            ``factors`` (near the mean of their models, since what is averaged are factors) or ``no``.
        dp_capable: DP-SGD can bound what one record does.
        mergeable: it can be folded into plain weights of the backbone.
        method_parameters: that a site gives back in one round.
        trained_parameters: that are trained over the whole run; more where a method trains another part in each round.
        head_parameters: of the head, in every round.
        bytes: of values in one round from one site.
        bytes_if_float16, bytes_if_int8: the same, were they encoded so; this version sends float32.
        share: of the parameters that full fine-tuning would exchange.
        needs: what the backbone lacks for it, which then has no numbers; empty where it fits.
    """

    name: str
    summary: str
    source: str
    averaging: str
    dp_capable: bool
    mergeable: bool
    method_parameters: int = 0
    trained_parameters: int = 0
    head_parameters: int = 0
    bytes: int = 0
    bytes_if_float16: int = 0
    bytes_if_int8: int = 0
    share: float = 0.0
    needs: str = ""


def settings() -> list[Setting]:
    """Every configuration key."""
    return [_setting(str(field.alias), field) for field in RunConfig.model_fields.values()]


def method_options(name: str) -> list[Setting]:
    """The options of one method. Raises ConfigError where there is no such method."""
    from fedmedpeft.methods import METHODS

    METHODS.factory(name)
    return [_setting(key, field) for key, field in METHODS.options_type(name).model_fields.items()]


def method_costs(names: Sequence[str], backbone: str, classes: int) -> list[MethodCost]:
    """Count each composition of ``names``, smallest first; no weights are read.

    Without ``names`` these are all methods, those that the backbone cannot have being last.

    Args:
        backbone: ``vit-ti``, ``vit-s``, ``vit-b``, ``vit-l`` (16-pixel patches, 224 pixels), ``meter-b`` (METER as
            published, at 384 pixels), or as configured.

    Raises:
        ConfigError: an unknown method, option or backbone, or a method of ``names`` that the backbone cannot have.
    """
    from fedmedpeft.learner import UnsuitableBackbone, learner_skeleton
    from fedmedpeft.methods import METHODS

    record = _record(backbone)
    labels = [str(index) for index in range(classes)]
    full = learner_skeleton(record, "full", labels).manifest().numel()
    costs = []
    for name in names or METHODS.names():
        try:
            costs.append(_cost(name, learner_skeleton(record, name, labels), full))
        except ConfigError as refusal:
            if names:
                raise
            needs = refusal.needs if isinstance(refusal, UnsuitableBackbone) else "other options than its defaults"
            costs.append(MethodCost(name, **_described(name), needs=needs))
    return sorted(costs, key=lambda cost: (bool(cost.needs), cost.bytes, cost.name))


def _record(backbone: str) -> BackboneRecord:
    """The record of a published size by its short name, or of a configured backbone."""
    from fedmedpeft.backbones import load_record, standard_meter_record, standard_record

    if Path(backbone).is_dir() or backbone not in (*_SIZES, _METER):
        return load_record(backbone)
    return standard_meter_record() if backbone == _METER else standard_record(_SIZES[backbone])


def _cost(name: str, learner: Learner, full: int) -> MethodCost:
    manifest = learner.rotation.largest_part(learner.manifest())
    return MethodCost(
        name=name,
        **_described(name),
        method_parameters=manifest.numel("method"),
        trained_parameters=learner.manifest().numel("method"),
        head_parameters=manifest.numel("head"),
        bytes=manifest.nbytes,
        bytes_if_float16=manifest.payload("float16"),
        bytes_if_int8=manifest.payload("int8"),
        share=manifest.numel() / full,
    )


def _described(composition: str) -> dict[str, Any]:
    """What its methods are, where they come from, and what can be done with them."""
    from fedmedpeft.components import parse_composition
    from fedmedpeft.methods import METHODS

    specs = parse_composition(composition)
    factories: Any = [METHODS.factory(spec.name) for spec in specs]
    methods = [METHODS.build(spec) for spec in specs]
    return {
        "summary": "; ".join(factory.summary for factory in factories),
        "source": "; ".join(factory.source for factory in factories),
        "averaging": max((method.averaging for method in methods), key=_AVERAGING.index),
        "dp_capable": all(method.dp_capable for method in methods),
        "mergeable": all(method.mergeable for method in methods),
    }


def as_json(rows: Sequence[Setting | MethodCost]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=2)


def _setting(key: str, field: FieldInfo) -> Setting:
    annotation = field.annotation
    choices = get_origin(annotation) is Literal
    kind = " | ".join(get_args(annotation)) if choices else getattr(annotation, "__name__", str(annotation))
    return Setting(key, kind, field.default, field.description or "")
