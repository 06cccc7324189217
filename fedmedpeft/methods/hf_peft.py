"""``peft:<type>``: the methods of Hugging Face peft by name, without a file for each."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from torch import nn

from fedmedpeft.backbones import Backbone, Place
from fedmedpeft.components import ComponentSpec, ConfigError
from fedmedpeft.methods.hf_peft_layers import PeftLayer, build_layers, quietly
from fedmedpeft.methods.hf_peft_options import INPUTS, PeftOptions, options_of
from fedmedpeft.methods.hf_peft_types import KINDS, Kind
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method
from fedmedpeft.methods.targets import roles_of

PREFIX = "peft:"
_SEEDS = ("projection_prng_key", "proj_seed", "random_loc_seed", "random_seed")
"""Fields of peft's configurations by which it draws what is never trained."""
_UNSAVED = ("progressbar", "save_indices", "save_precomputed_indices", "save_projection")
"""Fields that would put what can be drawn again into a saved adapter, and one that would talk."""
_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What peft raises for options that do not fit."""


class HfPeft(Method):
    """One type of peft: its tuner makes the layers, here they get their places, keys and seed.

    Layers are innermost, directly around the frozen module, since peft's layers read its weight; other methods wrap
    them.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    config_type: ClassVar[type[PeftConfig]]
    options: PeftOptions

    def __init__(self, options: PeftOptions) -> None:
        super().__init__(options)
        self.config({"any": options.targets.split(",")[0]}, seed=0)

    def config(self, targets: dict[str, str], seed: int) -> PeftConfig:
        """peft's configuration.

        Args:
            targets: role by name of the module, or by the last part of its name, which a type that shares something
                between blocks takes for the kind of a module.
            seed: of what peft draws by generators of its own, 31 bits.

        Raises:
            ConfigError: peft refuses an option.
        """
        known = {field.name for field in fields(self.config_type)}
        given: dict[str, Any] = {**self.options.model_dump(exclude={"targets", INPUTS, "where"}), **self.kind.preset}
        given |= {name: seed for name in _SEEDS if name in known}
        given |= {name: False for name in _UNSAVED if name in known}
        given["target_modules"] = list(targets)
        if "feedforward_modules" in known:
            scaled = roles_of(getattr(self.options, INPUTS), self.kind.known)
            given["feedforward_modules"] = [name for name, role in targets.items() if role in scaled]
        try:
            with quietly():
                return self.config_type(**given)
        except _REFUSALS as error:
            raise self._refusal(error) from error

    def places(self, backbone: Backbone) -> list[Place]:
        """Where it acts. Raises MissingPlace."""
        roles = roles_of(self.options.targets, self.kind.known)
        optional = tuple(role for role in roles if role == "norm_pre")
        return backbone.places(*(role for role in roles if role not in optional), optional=optional)

    def seed(self, init: Initialiser) -> int:
        """For :meth:`config`."""
        return init.number(f"{PREFIX}{self.name}/bases") >> 32

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        places = self.places(backbone)
        config = self.config({place.key.rpartition(".")[2]: place.role for place in places}, self.seed(init))
        owners = {place.key: self._innermost(place) for place in places}
        modules = {place.key: place.original for place in places}
        try:
            built = build_layers(config, modules, init.number(f"{PREFIX}{self.name}"), on_meta=self.kind.on_meta)
        except _REFUSALS as error:
            raise self._refusal(error) from error
        empty = [key for key, parameter in built.trained.items() if not parameter.numel()]
        if empty:
            raise ConfigError(f"method '{self._spec()}': '{empty[0]}' would hold no numbers. Choose larger sizes.")
        for place in places:
            layer = built.layers[place.key].to(init.device)
            setattr(*owners[place.key], PeftLayer(place.original, layer, self.kind.hides))
        return built.trained

    def _innermost(self, place: Place) -> tuple[nn.Module, str]:
        """Whose attribute the frozen module is, below what other methods put around it."""
        owner, attribute = place.owner, place.attribute
        while (module := getattr(owner, attribute)) is not place.original:
            if isinstance(module, PeftLayer):
                raise ConfigError(
                    f"method '{self._spec()}' and another peft:... both act on '{place.role}'. peft's layers do not go "
                    "around each other: give them different targets."
                )
            owner, attribute = module, "base"
        return owner, attribute

    def _spec(self) -> ComponentSpec:
        return ComponentSpec(f"{PREFIX}{self.name}", self.options.model_dump(exclude_unset=True))

    def _refusal(self, error: Exception) -> ConfigError:
        return ConfigError(f"method '{self._spec()}': Hugging Face peft refuses it: {' '.join(str(error).split())}")


def _register(name: str, kind: Kind) -> None:
    config_type = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType((kind.type or name).upper())]
    traits = {trait: getattr(kind, trait) for trait in _TRAITS}
    traits["draws_unsent"] = any(field.name in _SEEDS for field in fields(config_type))
    method = type(f"HfPeft_{name}", (HfPeft,), {"name": name, "kind": kind, "config_type": config_type, **traits})
    register_method(f"{PREFIX}{name}", options_of(kind, config_type))(method)


_TRAITS = ("summary", "source", "learning_rate", "averaging", "starts_frozen", "dp_capable", "mergeable")
for _name, _kind in KINDS.items():
    _register(_name, _kind)
