from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig

_PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def test_pyproject_holds_the_same_defaults() -> None:
    assert _PYPROJECT["tool"]["flwr"]["app"]["config"] == RunConfig().to_mapping()


def test_flower_installs_nothing_at_run_time() -> None:
    """Flower runs `uv sync` on the app for every run; overrides that never apply keep it from downloading anything."""

    def name(requirement: str) -> str:
        return requirement.split(";")[0].split("[")[0].split(">")[0].strip()

    overridden = {
        name(item) for item in _PYPROJECT["tool"]["uv"]["override-dependencies"] if "python_version < '3'" in item
    }
    assert {name(item) for item in _PYPROJECT["project"]["dependencies"]} <= overridden


def test_every_key_says_what_it_means() -> None:
    assert all(field.description for field in RunConfig.model_fields.values())


def test_round_trip() -> None:
    config = RunConfig.from_mapping({"method": "head", "rounds": 3, "learning-rate": 0.1})
    assert RunConfig.from_mapping(config.to_mapping()) == config
    assert config.total_steps == 30


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lerning-rate": 0.1}, "Unknown configuration key 'lerning-rate'. Did you mean 'learning-rate'"),
        ({"rounds": "5"}, "rounds='5'"),
        ({"rounds": 0}, "rounds=0"),
        ({"rounds": 2.0}, "rounds=2.0"),
        ({"mode": "federate"}, "mode='federate'"),
        ({"method": "lora("}, "lora("),
        ({"method": "lora+lora"}, "'lora' appears 2 times"),
        ({"personal": "norm"}, "personal='norm' is neither"),
        ({"method": "head", "personal": "head"}, "leaves nothing to exchange"),
        ({"sites": 2, "min-sites": 3}, "min-sites=3 is more than sites=2"),
        ({"device": "gpuu"}, "device='gpuu'"),
        ({"head-learning-rate": float("inf")}, "head-learning-rate=inf"),
        ({"val-fraction": 0.6, "test-fraction": 0.6}, "leave nothing to train on"),
        ({"run-name": "../x"}, "run-name='../x' must be a plain name"),
        ({"resume": ".."}, "resume='..' must be a plain name"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        RunConfig.from_mapping(values)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("method", "personal", "parts"),
    [
        ("lora+layernorm", "layernorm, head", ("layernorm", "head")),
        ("lora+layernorm", "none", ()),
        ("lora+layernorm", "auto", ("layernorm",)),
        ("layernorm", "auto", ()),
        ("head+layernorm", "auto", ()),
        ("lora", "auto", ()),
    ],
)
def test_personal_parts(method: str, personal: str, parts: tuple[str, ...]) -> None:
    assert RunConfig.from_mapping({"method": method, "personal": personal}).personal_parts == parts


@pytest.mark.parametrize("key", ["privacy", "client-privacy"])
def test_privacy_freezes_a_factor_of_lora_where_nobody_says_otherwise(key: str) -> None:
    private = {key: "required" if key == "privacy" else "fixed"}
    assert RunConfig.from_mapping(private).method == "layernorm+lora(factors='ffa')"
    assert RunConfig.from_mapping({**private, "method": "lora(rank=2)"}).method == "lora(factors='ffa', rank=2)"
    said = RunConfig.from_mapping({**private, "method": "lora(factors=rolora)+head"})
    assert said.method == "head+lora(factors='rolora')"
    assert RunConfig.from_mapping(said.to_mapping()) == said
    assert RunConfig.from_mapping({}).method == "lora+layernorm"
    assert RunConfig.from_mapping({**private, "method": "peft:lora"}).method == "peft:lora"
