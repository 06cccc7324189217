from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from clients.egress.run_hash import run_hash
from clients.preflight.announced_run import check_announced, check_policy, check_settings
from clients.preflight.check import Result
from clients.preflight.facts import Facts
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig

Announce = Callable[..., Facts]


@pytest.fixture
def announce(facts_of: Callable[..., Facts], tmp_path: Path) -> Announce:
    def make(toml: str, **changes: object) -> Facts:
        facts = facts_of(**changes)
        facts.run_config = tmp_path / "run.toml"
        facts.run_config.write_text(toml)
        return facts

    return make


def test_no_run_was_announced(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of()
    assert check_announced(facts).status == "skip"
    assert check_settings(facts).status == "pass"
    assert facts.config.rounds == RunConfig.from_mapping({}).rounds


def test_the_hash_of_the_run(announce: Announce) -> None:
    result = check_announced(announce('method = "lora(rank=4)"'))
    assert result.status == "pass"
    assert run_hash(RunConfig.from_mapping({"method": "lora(rank=4)"})) in result.text


def test_a_run_that_is_none(announce: Announce) -> None:
    for toml in ("method = ", "metod = 'lora'", "rounds = 0"):
        with pytest.raises(ConfigError):
            check_announced(announce(toml))


def _policy(facts: Facts) -> Result:
    check_announced(facts)
    return check_policy(facts)


def test_the_policy(announce: Announce) -> None:
    assert _policy(announce("rounds = 5")).status == "pass"
    refused = _policy(announce("rounds = 5\nmethod = 'full'", policy={"most-rounds": 4}))
    assert refused.status == "fail"
    assert "rounds=5" in refused.text
    assert "'full'" in refused.text
    assert _policy(announce("rounds = 5", policy={"dry-run": True})).status == "warn"


def test_now_is_not_the_time(announce: Announce) -> None:
    later = datetime.now() + timedelta(hours=2)
    hours = f"{later:%H}:00-{later:%H}:30"
    result = _policy(announce("rounds = 5", policy={"hours": hours}))
    assert (result.status, hours in result.text) == ("warn", True)


def test_what_the_site_lacks(announce: Announce) -> None:
    for toml in ("backbone = 'google/vit'", "knowledge = 'open(path=/x)'"):
        facts = announce(toml)
        check_announced(facts)
        assert check_settings(facts).status == "fail"
