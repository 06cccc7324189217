"""A PEFT state in Hugging Face peft's own format, where peft has the method: ``PeftModel.from_pretrained`` reads it.

Only what was trained is written, and what of it a run's seed draws where peft would have it trained (the A of
``lora(factors='ffa')``). Random bases are drawn again by peft from the seed in its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import LNTuningConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import save
from torch import nn

from fedmedpeft.adapter_file import HF_CONFIG_FILE, AdapterConfig
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.backbones import Backbone, Place, skeleton
from fedmedpeft.components import parse_composition
from fedmedpeft.exchange import PeftState
from fedmedpeft.hf_models import HfClassifier, classifier_for, new_classifier
from fedmedpeft.methods import METHODS, Initialiser, Method
from fedmedpeft.methods.hf_peft import HfPeft
from fedmedpeft.methods.hf_peft_layers import ADAPTER, carrier, copied, quietly, trained_parameters
from fedmedpeft.methods.lora import Lora
from fedmedpeft.methods.targets import NORMS
from fedmedpeft.tasks import Classification, build_task

HF_TENSORS_FILE = "adapter_model.safetensors"
_CPU = torch.device("cpu")


class HfFormatError(ValueError):
    """Hugging Face peft has no adapter that computes this; the message says why, as half a sentence."""


@dataclass(frozen=True)
class _Plan:
    """What an adapter of peft is made of.

    Args:
        places: where peft's layers go.
        config: peft's configuration, given the role of each kind of module by the last part of its name.
        norms: LayerNorms that are saved whole beside them.
        unsent: tensors that are saved with those of the state.
    """

    places: list[Place]
    config: Callable[[dict[str, str]], PeftConfig]
    norms: list[Place]
    unsent: Mapping[str, torch.Tensor] = field(default_factory=dict)


def write_hf_adapter(directory: Path, saved: AdapterConfig, state: PeftState) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    Args:
        directory: gets both files.
        saved: what the tensors belong to.
        state: the tensors.

    Raises:
        HfFormatError: peft has no such method, or only with others than those it is composed with.
    """
    config, tensors = hf_adapter(saved, state)
    write_atomically(directory / HF_TENSORS_FILE, save(tensors, {"format": "pt"}))
    write_atomically(directory / HF_CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True) + "\n")


def hf_adapter(saved: AdapterConfig, state: PeftState) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """peft's configuration as plain values, and its tensors by its names. Raises HfFormatError."""
    if build_task(saved.task).name != Classification.name:
        raise HfFormatError(f"no model of transformers has the head of task '{saved.task}'")
    family = saved.backbone.architecture.family
    classifier = classifier_for(family)
    if classifier is None:
        raise HfFormatError(f"no image classifier of transformers reads {family}'s feature as this project does")
    backbone = skeleton(saved.backbone)
    plan = _plan(saved, backbone)
    whole = new_classifier(classifier, saved.backbone, saved.classes)
    names = {place.key: _published(backbone, place, classifier) for place in (*plan.places, *plan.norms)}
    config: Any = plan.config(_targets({names[place.key]: place.role for place in plan.places}, whole))
    targets = sorted(config.target_modules)
    heads = [classifier.head] if any(spec.part == "head" for spec in state.manifest.tensors) else []
    config.modules_to_save = [*heads, *(names[place.key] for place in plan.norms)]
    originals = {names[place.key]: place.original for place in (*plan.places, *plan.norms)}
    originals |= {name: whole.get_submodule(name) for name in heads}
    with quietly(), torch.random.fork_rng(devices=[]):
        model: Any = PeftModel(carrier({name: copied(original, "cpu") for name, original in originals.items()}), config)
    slots = _slots(model.base_model.model, plan, names, heads)
    saves = {key: torch.from_numpy(values.copy()) for key, values in state.tensors().items()} | dict(plan.unsent)
    for key, values in saves.items():
        slots[key].data.copy_(values)
    trained = {slots[key].data_ptr() for key in saves}
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False).items()
    config.base_model_name_or_path, config.inference_mode = saved.backbone.name, True
    # While the layers were made, peft may have shortened the targets to what is enough for these modules alone.
    return _plain(config) | {"target_modules": targets}, {
        name: tensor.clone() for name, tensor in tensors if tensor.data_ptr() in trained
    }


def _plan(saved: AdapterConfig, backbone: Backbone) -> _Plan:
    methods: dict[str, Method] = {spec.name: METHODS.build(spec) for spec in parse_composition(saved.method)}
    there = {name: method for name, method in methods.items() if name not in saved.personal and name != "head"}
    norms = backbone.places(optional=NORMS) if "layernorm" in there else []
    others = {name: method for name, method in there.items() if name != "layernorm"}
    if not others and norms:
        return _Plan(norms, lambda targets: LNTuningConfig(target_modules=list(targets)), [])
    if len(others) != 1:
        what = "a head alone" if not others else " and ".join(f"'{name}'" for name in others) + " in one adapter"
        raise HfFormatError(f"Hugging Face peft has no {what}")
    name, method = next(iter(others.items()))
    if isinstance(method, HfPeft):
        seed = method.seed(Initialiser(saved.seed, _CPU))
        places = method.places(backbone)
        return _Plan(places, lambda targets: method.config(targets, seed), norms)
    if isinstance(method, Lora):
        unsent = method.unsent(backbone, Initialiser(saved.seed, _CPU))
        return _Plan(method.places(backbone), _lora_config(method), norms, unsent)
    raise HfFormatError(f"Hugging Face peft has no method that is '{name}'")


def _lora_config(method: Lora) -> Callable[[dict[str, str]], PeftConfig]:
    options = method.options
    alpha = int(options.alpha) if options.alpha.is_integer() else options.alpha
    return lambda targets: LoraConfig(
        r=options.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft takes any number
        lora_dropout=options.dropout,
        target_modules=list(targets),
    )


def _published(backbone: Backbone, place: Place, classifier: HfClassifier) -> str:
    """The module's name in the classification model."""
    name = backbone.published_name(f"{place.key}.weight")
    return classifier.backbone + name.removesuffix(".weight")


def _targets(wanted: Mapping[str, str], whole: nn.Module) -> dict[str, str]:
    """Role by the shortest names that mean the modules ``wanted`` in ``whole``, and nothing else."""
    kinds = {name.rpartition(".")[2]: role for name, role in wanted.items()}
    meant = {name for name, _ in whole.named_modules() if name.rpartition(".")[2] in kinds}
    return kinds if meant == set(wanted) else dict(wanted)


def _slots(root: nn.Module, plan: _Plan, names: Mapping[str, str], heads: Sequence[str]) -> dict[str, nn.Parameter]:
    """peft's parameters by the keys of the state."""
    layers = {place.key: root.get_submodule(names[place.key]) for place in plan.places}
    slots = trained_parameters(layers)
    for key, layer in layers.items():
        slots |= {f"{key}.{_OWN[name]}": p for name, p in layer.named_parameters() if name in _OWN}
    whole = {place.key: names[place.key] for place in plan.norms} | dict(zip(("head",), heads, strict=False))
    for key, name in whole.items():
        copy = root.get_submodule(f"{name}.modules_to_save.{ADAPTER}")
        slots |= {f"{key}.{parameter}": value for parameter, value in copy.named_parameters()}
    return slots


_OWN = {
    f"lora_A.{ADAPTER}.weight": "lora_A",
    f"lora_B.{ADAPTER}.weight": "lora_B",
    f"ln_tuning_layers.{ADAPTER}.weight": "weight",
    f"ln_tuning_layers.{ADAPTER}.bias": "bias",
}
"""Keys of this project's own methods by peft's names; those of ``peft:<type>`` are peft's."""


def _plain(config: PeftConfig) -> dict[str, Any]:
    """As peft writes it, with sets in a fixed order: equal adapters are to be equal files."""
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    return {key: value.value if isinstance(value, Enum) else value for key, value in values.items()}
