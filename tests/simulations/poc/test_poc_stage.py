from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from clients.deployment.own_data import own_source
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.site_identity import public_key_line, read_private_key
from simulations.poc.plan import Plan
from simulations.poc.stage import Stage, set_up


def test_every_site_has_its_own_rows_and_port(plan: Plan, stage: Stage) -> None:
    sites = [stage.site(name) for name in plan.sites]
    assert [site.site for site in sites] == list(plan.sites)
    assert [len(own_source(site).table) for site in sites] == list(plan.images.values())
    assert all(own_source(site).table.classes == plan.classes for site in sites)
    assert {site.server.address for site in sites} == {stage.server.address}
    assert stage.server.host == "127.0.0.1"
    assert stage.intruder is not None
    ports = [site.worker.runtime_port for site in [*sites, SiteFile.load(stage.intruder)]]
    assert len({*ports, stage.server.port}) == 5


def test_the_stranger_has_the_certificate_and_a_key_that_nobody_registered(plan: Plan, stage: Stage) -> None:
    assert stage.intruder is not None
    stranger = SiteFile.load(stage.intruder)
    key = public_key_line(read_private_key(stranger.path(stranger.server.key)).public_key())
    registered = {name: path.read_text().strip() for name, path in stage.server.public_keys().items()}
    assert set(registered) == set(plan.sites)
    assert key not in registered.values()
    assert (
        stranger.path(stranger.server.ca_certificate).read_bytes() == (stage.server.directory / "ca.crt").read_bytes()
    )


def test_nobody_knocks_in_a_quick_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.poc.stage._LONGEST_SOCKET", 1000)
    quick = Plan.make("phantoms(scanners=2, images=40, size=32)", 2, 1, events=False)
    assert set_up(quick, tmp_path / "work").intruder is None


def test_the_run_is_that_of_the_plan(plan: Plan, stage: Stage) -> None:
    assert RunConfig.from_mapping(tomllib.loads(stage.run.read_text())) == plan.config()


def test_a_directory_too_deep_for_a_socket_is_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shorter directory with --work"):
        set_up(plan, tmp_path / ("deep" * 20))
