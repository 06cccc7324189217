"""A server names no file of a site, wherever it writes the name."""

from __future__ import annotations

from typing import Any

import pytest

from clients.egress.server_paths import named_paths
from fedmedpeft.config import RunConfig


def _named(**values: Any) -> list[str]:
    return named_paths(RunConfig.from_mapping({key.replace("_", "-"): value for key, value in values.items()}))


def test_an_ordinary_run_names_none() -> None:
    method = "lora(rank=8, targets='q,v')+textual-prompts(start='a photo of a')+prefix(where='text')"
    assert _named(method=method, strategy="fedprox(mu=0.5)", client_privacy="fixed(clip_at='site')") == []


@pytest.mark.parametrize("option", ["path", "answers", "reference", "ledger", "checkpoint", "hpo", "root", "file"])
@pytest.mark.parametrize("key", ["method", "task", "strategy", "client-privacy"])
def test_an_option_that_is_a_path_is_found(key: str, option: str) -> None:
    kind = {"method": "lora", "task": "vqa", "strategy": "fedavg", "client-privacy": "fixed"}[key]
    assert _named(**{key: f"{kind}({option}=plain)"}) == [f"{key}: {option}"]
    assert _named(**{key: f"{kind}({option}='')"}) == []


@pytest.mark.parametrize("value", ["/etc/passwd", "a/b", "~", "..", "C:\\data", "list.txt", "../up"])
def test_a_value_that_looks_like_a_path_is_found_in_any_option(value: str) -> None:
    assert _named(method=f"lora(rank=8)+ssf(note='{value}')") == ["method: note"]


def test_plain_keys_are_looked_at() -> None:
    found = _named(start_from="adapter", backbone_revision="../../x", backbone_fingerprint="see /etc")
    assert found == ["start-from", "backbone-revision", "backbone-fingerprint"]


def test_what_the_site_puts_its_own_for_is_not() -> None:
    assert _named(data="folder(path='/srv')", knowledge="umls(path='/srv')", backbone="/models/vit") == []
