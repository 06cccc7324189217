"""An approved run is approved in all that matters at the site, however it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from clients.egress.run_hash import SITE_KEYS, read_run, run_hash
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig

_BASE = RunConfig.from_mapping({"method": "lora(rank=8)+layernorm", "local-steps": 7})
_OTHER: dict[str, Any] = {
    "mode": "local-only",
    "references": "none",
    "method": "lora(rank=9)+layernorm",
    "personal": "none",
    "task": "vqa",
    "knowledge": "umls(path=a)",
    "schedule": "constant",
    "strategy": "fedprox(mu=0.1)",
    "weighting": "uniform",
    "client-privacy": "fixed",
    "device": "cpu",
    "data": "folder(path=a)",
    "partition": "iid",
    "privacy": "required(epsilon=1)",
}
"""Another value, for keys whose values are not any number or any text."""
_KEYS = sorted(_BASE.to_mapping())


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + (1 if isinstance(value, int) else 0.001)


@given(st.lists(st.sampled_from(_KEYS), unique=True))
def test_every_key_counts_but_those_of_a_site(keys: list[str]) -> None:
    values = _BASE.to_mapping()
    changed = values | {key: _OTHER.get(key, _other(values[key])) for key in keys}
    other = _BASE.model_copy(update={key.replace("-", "_"): value for key, value in changed.items()})
    assert (run_hash(other) == run_hash(_BASE)) == (not set(keys) - set(SITE_KEYS))


@pytest.mark.parametrize("key", _KEYS)
def test_each_key_alone(key: str) -> None:
    value = _OTHER.get(key, _other(_BASE.to_mapping()[key]))
    other = _BASE.model_copy(update={key.replace("-", "_"): value})
    assert (run_hash(other) == run_hash(_BASE)) == (key in SITE_KEYS)


def test_the_sites_keys_are_keys_of_a_run() -> None:
    assert set(SITE_KEYS) <= set(_KEYS)


@pytest.mark.parametrize(
    "method",
    ["layernorm + lora( rank=8 )", "lora(rank=8)+layernorm", "lora(rank = 8) +layernorm()", "layernorm+lora(rank=8)"],
)
def test_how_a_method_is_written_does_not_count(method: str) -> None:
    assert run_hash(_BASE.model_copy(update={"method": method})) == run_hash(_BASE)


def test_the_order_of_options_does_not_count_and_their_type_does() -> None:
    one, other, text = (
        run_hash(_BASE.model_copy(update={"method": method}))
        for method in ("lora(rank=8, alpha=2)", "lora(alpha=2, rank=8)", "lora(rank='8', alpha=2)")
    )
    assert one == other
    assert one != text


def test_of_knowledge_it_counts_whether_a_run_asks_for_it() -> None:
    none, umls, obo = (
        run_hash(_BASE.model_copy(update={"knowledge": text})) for text in ("", "umls(path=a)", "obo(path=b)")
    )
    assert umls == obo
    assert none != umls


def test_the_hash_is_the_same_tomorrow() -> None:
    """Approvals are written down: another hash for the same run would end them all."""
    keys = {"mode": "federated", "method": "lora(rank=8)"}
    assert run_hash(RunConfig.from_mapping(keys)) == run_hash(RunConfig.from_mapping(dict(reversed(keys.items()))))
    assert len(run_hash(_BASE)) == 64


@pytest.mark.parametrize("shape", ["keys", "table", "directory"])
def test_a_run_is_read_from_keys_from_a_table_and_from_a_directory(tmp_path: Path, shape: str) -> None:
    values = _BASE.to_mapping()
    content = values if shape == "keys" else {"config": {**values, "sites": 3}, "versions": {"torch": "2"}}
    (tmp_path / "config.toml").write_text(tomli_w.dumps(content))
    path = tmp_path if shape == "directory" else tmp_path / "config.toml"
    assert run_hash(read_run(path)) == run_hash(_BASE)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"rounds = [", "not TOML"), (b"round = 3", "Did you mean 'rounds'"), (b"config = 3", "table"), (b"\xff", "read")],
)
def test_a_file_that_is_no_run_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_run(tmp_path / "run.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_run(tmp_path / "none.toml")
