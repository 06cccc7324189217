"""Options of ``peft:<type>``, read from the fields of Hugging Face peft's own configurations."""

from __future__ import annotations

import dataclasses
import re
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from peft import PeftConfig
from pydantic import ConfigDict, Field, create_model, field_validator

from fedmedpeft.methods.hf_peft_types import Kind
from fedmedpeft.methods.method import MethodOptions
from fedmedpeft.methods.targets import roles_of

# fmt: off
_OURS = frozenset({
    # Where and how it is applied: said by role, by the backbone and by the learner.
    "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out",
    "feedforward_modules", "inference_mode", "layers_pattern", "layers_to_transform", "modules_to_save", "peft_type",
    "peft_version", "revision", "target_modules", "target_parameters", "task_type",
    # Training starts at the frozen model where the type can.
    "init_ia3_weights", "init_lora_weights", "init_scale", "init_weights", "para",
    # The run's seed decides what is random, and no random basis is sent.
    "generator_seed", "progressbar", "projection_prng_key", "proj_seed", "random_loc_seed", "random_seed",
    "runtime_offload_base_weight", "sample_at_inference", "save_indices", "save_only_topk_weights",
    "save_precomputed_indices", "save_projection",
    # Types of their own here (peft:dora), or of no use in a vision backbone.
    "coft", "eps", "lora_bias", "megatron_core", "mini_r", "qalora_group_size", "use_dora", "use_effective_conv2d",
    "use_qalora", "use_rslora",
})
# fmt: on
_SCALARS = (bool, int, float, str)

INPUTS = "inputs"
"""Option of a type that scales inputs of some modules and outputs of others."""


class PeftOptions(MethodOptions):
    """What every ``peft:<type>`` has."""

    model_config = ConfigDict(allow_inf_nan=False)

    targets: str


def options_of(kind: Kind, config: type[PeftConfig]) -> type[PeftOptions]:
    """The options that a person may set: plain values, with peft's defaults unless ``kind`` has others."""
    hints = get_type_hints(config)
    fields: dict[str, Any] = {
        "targets": (str, Field(kind.targets, description=f"places to adapt, comma-separated: {', '.join(kind.known)}"))
    }
    if any(field.name == "feedforward_modules" for field in dataclasses.fields(config)):
        meaning = "those of the targets whose inputs are scaled; of the others it is the outputs"
        fields[INPUTS] = (str, Field("ffn_out", description=meaning))
    for field in dataclasses.fields(config):
        annotation = _plain(hints[field.name])
        if field.name in _OURS or field.name in kind.preset or annotation is None:
            continue
        default = kind.defaults.get(field.name, field.default)
        fields[field.name] = (annotation, Field(default, description=_help(field), **_bounds(field.name)))

    def known(cls: type[PeftOptions], value: str) -> str:
        roles_of(value, kind.known)
        return value

    return create_model(
        f"{config.__name__}Options",
        __base__=PeftOptions,
        __validators__={"known_targets": field_validator("targets", *fields.keys() & {INPUTS})(known)},
        **fields,
    )


def _plain(annotation: Any) -> Any:
    """The annotation where a value of it can be written in a configuration; None where not."""
    if annotation in _SCALARS:
        return annotation
    if get_origin(annotation) is Literal:
        return annotation if all(isinstance(value, str) for value in get_args(annotation)) else None
    if get_origin(annotation) not in (Union, UnionType):
        return None
    members = [m for m in get_args(annotation) if not (isinstance(m, type) and issubclass(m, Enum))]
    plain = [_plain(member) for member in members if member is not type(None)]
    if len(plain) != 1 or plain[0] is None:
        return None
    return plain[0] | None if type(None) in members else plain[0]


def _bounds(name: str) -> dict[str, Any]:
    """What peft takes without a word and then fails at, or trains nothing with."""
    if name.endswith("dropout"):
        return {"ge": 0, "lt": 1}
    if "alpha" in name or name == "scaling":
        return {"gt": 0}
    return {"ge": 1} if name == "num_cayley_neumann_terms" else {}


def _help(field: dataclasses.Field[Any]) -> str:
    """The first sentence of peft's own help."""
    text = " ".join(str(field.metadata.get("help", "")).split())
    sentence = re.split(r"(?<=[a-z)`'])\.\s", text, maxsplit=1)[0].rstrip(". ")
    return sentence or field.name.replace("_", " ")
