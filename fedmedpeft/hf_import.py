"""A LoRA that was made with Hugging Face peft, under this project's names."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedmedpeft.adapter_file import HF_CONFIG_FILE
from fedmedpeft.backbones import Backbone
from fedmedpeft.backbones.backbone import ROLES
from fedmedpeft.components import ComponentSpec, ConfigError
from fedmedpeft.hf_adapter import HF_TENSORS_FILE
from fedmedpeft.methods.targets import PROJECTIONS

_OLD_NAMES = (
    (r"\bencoder\.layer\.", "layers."),
    (r"\battention\.attention\.query\b", "attention.q_proj"),
    (r"\battention\.attention\.key\b", "attention.k_proj"),
    (r"\battention\.attention\.value\b", "attention.v_proj"),
    (r"\battention\.output\.dense\b", "attention.o_proj"),
    (r"\bintermediate\.dense\b", "mlp.fc1"),
    (r"\boutput\.dense\b", "mlp.fc2"),
)
"""How transformers before version 5 called the parts of a ViT, and what they are called now."""
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")
_HEAD = re.compile(r"(.*\.)?classifier\.")
_UNSUPPORTED = (
    "rank_pattern", "alpha_pattern", "use_dora", "use_qalora", "lora_bias", "trainable_token_indices",
    "use_bdlora", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` that leave the weights around a LoRA alone; pissa, olora, ... change these."""


@dataclass(frozen=True)
class HfLora:
    """What was in the files.

    Args:
        rank, alpha: of every place, the scale being alpha / rank, or alpha / sqrt(rank) with ``rslora``.
        roles: places that it adapts.
        tensors: ``lora_A`` or ``lora_B`` by place and factor.
        has_head: it brings a classifier too, whose classes it does not name.
    """

    rank: int
    alpha: float
    rslora: bool
    roles: tuple[str, ...]
    tensors: dict[tuple[str, str], npt.NDArray[np.float32]]
    has_head: bool

    def fits(self, spec: ComponentSpec, options: dict[str, Any]) -> bool:
        """Whether the method ``spec`` with all its ``options`` computes what this LoRA computes.

        Never where A is the seed's (``lora(factors='ffa')``): this one has an A of its own.
        """
        names = ("rank", "alpha") if spec.name == "lora" else ("r", "lora_alpha")
        kinds = ("peft:rslora",) if self.rslora else ("lora", "peft:lora")
        return (
            spec.name in kinds
            and tuple(options[name] for name in names) == (self.rank, self.alpha)
            and {target.strip() for target in options["targets"].split(",")} == set(self.roles)
            and options.get("factors") != "ffa"
        )

    def method(self) -> ComponentSpec:
        """The method that a run must have to start from it."""
        targets = ",".join(self.roles)
        alpha = int(self.alpha) if float(self.alpha).is_integer() else self.alpha
        if self.rslora:
            return ComponentSpec("peft:rslora", {"r": self.rank, "lora_alpha": alpha, "targets": targets})
        return ComponentSpec("lora", {"rank": self.rank, "alpha": alpha, "targets": targets})

    def state(self, name: str) -> dict[str, npt.NDArray[np.float32]]:
        """By the keys of method ``name``."""
        key = "{}.lora_{}" if name == "lora" else "{}.peft.lora_{}.weight"
        return {key.format(place, factor): values for (place, factor), values in self.tensors.items()}


def read_hf_lora(directory: Path, backbone: Backbone) -> HfLora:
    """Read ``adapter_config.json`` and ``adapter_model.safetensors``, with names of any version of transformers.

    Raises:
        ConfigError: damaged, not a LoRA, a variant that no method here computes, or not for this kind of backbone.
    """
    config = _read_config(directory)
    modules = _modules(backbone)
    tensors: dict[tuple[str, str], npt.NDArray[np.float32]] = {}
    roles: set[str] = set()
    has_head = False
    for name, tensor in _read_tensors(directory).items():
        factor = _FACTOR.fullmatch(name)
        found = _find(factor["module"], modules) if factor else None
        if found is None and _HEAD.match(name):
            has_head = True
            continue
        if found is None or factor is None:
            raise ConfigError(f"start-from='{directory}': tensor '{name}' belongs to no projection of this backbone.")
        place, role = found
        roles.add(role)
        tensors[place, factor["factor"]] = tensor.float().numpy()
    return HfLora(
        rank=config["r"],
        alpha=config["lora_alpha"],
        rslora=bool(config.get("use_rslora")),
        roles=tuple(role for role in ROLES if role in roles),
        tensors=tensors,
        has_head=has_head,
    )


def _read_config(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / HF_CONFIG_FILE).read_text(encoding="utf-8"))
        kind, _, _ = config.get("peft_type"), config["r"] + 0, config["lora_alpha"] + 0
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"start-from='{directory}': {HF_CONFIG_FILE} is not that of a LoRA ({error}).") from None
    used = [name for name in _UNSUPPORTED if config.get(name)]
    used += ["bias"] if config.get("bias", "none") != "none" else []
    start = config.get("init_lora_weights", True)
    used += [] if start in _PLAIN_STARTS else [f"init_lora_weights={start!r}"]
    if kind != "LORA" or used:
        what = f"uses {', '.join(used)}" if kind == "LORA" else f"is of type {kind}"
        raise ConfigError(f"start-from='{directory}': the adapter {what}; a run can start from a plain LoRA only.")
    return dict(config)


def _read_tensors(directory: Path) -> dict[str, Any]:
    path = directory / HF_TENSORS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"start-from='{directory}': {HF_TENSORS_FILE} cannot be read ({error}). Files ending in .bin are never "
            "read: save the adapter again with safe_serialization=True."
        ) from None


def _modules(backbone: Backbone) -> dict[str, tuple[str, str]]:
    """Place and role by published name of the module."""
    places = backbone.places(optional=PROJECTIONS)
    return {backbone.published_name(f"{p.key}.weight").removesuffix(".weight"): (p.key, p.role) for p in places}


def _find(module: str, modules: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """By the longest end of its name that is known, since adapters differ in what stands before it."""
    for old, new in _OLD_NAMES:
        module = re.sub(old, new, module)
    parts = module.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    return next((modules[end] for end in ends if end in modules), None)
