"""What there is to choose from: configuration keys, methods, and what each method costs on a backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fedmedpeft.config import RunConfig

_SIZES = {"vit-ti": "ti", "vit-s": "s", "vit-b": "b", "vit-l": "l"}


@dataclass(frozen=True)
class Setting:
    """One key, or one option of a component."""

    key: str
    type: str
    default: bool | int | float | str
    meaning: str


@dataclass(frozen=True)
class MethodCost:
    """A method on a backbone. ``share``: of the parameters that full fine-tuning would exchange."""

    name: str
    summary: str
    source: str
    method_parameters: int
    head_parameters: int
    bytes: int
    share: float


def settings() -> list[Setting]:
    """Every configuration key."""
    return [_setting(str(field.alias), field) for field in RunConfig.model_fields.values()]


def method_options(name: str) -> list[Setting]:
    """The options of one method. Raises ConfigError where there is no such method."""
    from fedmedpeft.methods import METHODS

    METHODS.factory(name)
    return [_setting(key, field) for key, field in METHODS.options_type(name).model_fields.items()]


def method_costs(names: Sequence[str], backbone: str, classes: int) -> list[MethodCost]:
    """Count each composition of ``names`` (all methods where empty), smallest first; no weights are read.

    Args:
        backbone: ``vit-ti``, ``vit-s``, ``vit-b``, ``vit-l`` (16-pixel patches, 224 pixels), or as configured.

    Raises:
        ConfigError: an unknown method, option or backbone.
    """
    from fedmedpeft.backbones import load_record, standard_record
    from fedmedpeft.components import parse_composition
    from fedmedpeft.learner import learner_skeleton
    from fedmedpeft.methods import METHODS

    local = Path(backbone).is_dir()
    record = standard_record(_SIZES[backbone]) if backbone in _SIZES and not local else load_record(backbone)
    labels = [str(index) for index in range(classes)]
    full = learner_skeleton(record, "full", labels).manifest().numel()
    costs = []
    for name in names or METHODS.names():
        manifest = learner_skeleton(record, name, labels).manifest()
        parts: Any = [METHODS.factory(spec.name) for spec in parse_composition(name)]
        costs.append(
            MethodCost(
                name=name,
                summary="; ".join(part.summary for part in parts),
                source="; ".join(part.source for part in parts),
                method_parameters=manifest.numel("method"),
                head_parameters=manifest.numel("head"),
                bytes=manifest.nbytes,
                share=manifest.numel() / full,
            )
        )
    return sorted(costs, key=lambda cost: (cost.bytes, cost.name))


def as_json(rows: Sequence[Setting | MethodCost]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=2)


def _setting(key: str, field: FieldInfo) -> Setting:
    annotation = field.annotation
    choices = get_origin(annotation) is Literal
    kind = " | ".join(get_args(annotation)) if choices else getattr(annotation, "__name__", str(annotation))
    return Setting(key, kind, field.default, field.description or "")
