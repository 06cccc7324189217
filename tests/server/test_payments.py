"""What sites have paid for the privacy of whole sites outlives the server, and is never too little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.client_privacy import ClientPrivacy
from server.federation import run_federation
from server.payments import Payments
from server.sealed_file import read_sealed
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script
from tests.server.interruptions import Cut, Cutter, cut, lasting_sites, left_behind, run
from tests.server.private_means import ZERO, answers_of, mean_of, privacy, updates

AT_SERVER = "adaptive(clip=0.5, noise=0.5)"
AT_SITES = "fixed(clip=0.5, noise=0.5, clip_at='site', noise_at='site')"


def config_of(tmp_path: Path, spec: str, **changes: Any) -> RunConfig:
    values = {"client_privacy": spec, "weighting": "uniform", "inbound_factor": 0.0, "rounds": 3, "max_norm": 1e9}
    return script.run_config(tmp_path, **{**values, **changes})


def sites_of(config: RunConfig) -> list[Any]:
    sites = list(script.federation_of(config).values())
    for site in sites:
        site.step = 1e-3
    return sites


def paid(path: Path) -> dict[str, int]:
    sites = json.loads((path / "summary.json").read_text())["client_privacy"]["sites"]
    return {site: told["rounds"] for site, told in sites.items()}


@pytest.mark.parametrize("spec", [AT_SERVER, AT_SITES])
def test_cut_off_anywhere_no_payment_is_lost_and_a_round_at_most_is_counted_twice(tmp_path: Path, spec: str) -> None:
    config, cutter = config_of(tmp_path, spec, rounds=2), Cutter(None, cut, [])
    with cutter.watching():
        whole = run(config, sites_of(config))
    assert paid(whole) == dict.fromkeys(("site-0", "site-1", "site-2"), 2)
    asked = [index for index, name in enumerate(cutter.events) if name != "writing"]
    for at in asked[2:]:
        config = config_of(tmp_path, spec, rounds=2, runs_dir=str(tmp_path / f"cut-{at}"))
        with pytest.raises(Cut), Cutter(at, cut, []).watching():
            run(config, sites_of(config))
        resumed = run(config.model_copy(update={"resume": "run"}), sites_of(config), 101)
        assert set(paid(resumed).values()) <= {2, 3}, cutter.events[at]
        assert left_behind(resumed)["rounds"][-1]["round"] == "2"


def test_the_clip_and_the_noised_state_are_sent_once_more_as_they_were(tmp_path: Path) -> None:
    config, home = config_of(tmp_path, AT_SERVER), tmp_path / "sites"

    class Leaving(LocalGrid):
        def pull_messages(self, message_ids: Any) -> Any:
            if self.log[-1].metadata.group_id == "2":
                raise Cut
            return super().pull_messages(message_ids)

    with pytest.raises(Cut):
        run_federation(config, Leaving(dict(enumerate(lasting_sites(config, home), 11))), [].append)
    checkpoint = read_sealed(tmp_path / "runs" / "run" / "checkpoints" / "round-0001.json")
    path = run(config.model_copy(update={"resume": "run"}), lasting_sites(config, home), 101)
    rows = left_behind(path)["rounds"]
    assert float(rows[2]["clip"]) == pytest.approx(checkpoint["progress"]["private"]["clip"], rel=1e-8)
    assert rows[1]["clip"] != rows[2]["clip"]
    # These sites answer nothing but the request that they had before, byte by byte.
    assert {row["outcome"] for row in left_behind(path)["sites"] if row["round"] == "2"} == {"accepted"}


@pytest.mark.parametrize("spec", [AT_SERVER, AT_SITES])
def test_a_round_that_left_the_server_stays_paid_where_its_checkpoint_is_lost(tmp_path: Path, spec: str) -> None:
    config = config_of(tmp_path, spec)
    sites = sites_of(config)
    sites[0].twists[3] = _cutting
    with pytest.raises(Cut):
        run(config, sites)
    for file in (tmp_path / "runs" / "run" / "checkpoints").glob("round-0002*"):
        file.unlink()
    resumed = run(config.model_copy(update={"resume": "run"}), sites_of(config), 101)
    # Three rounds, the second one twice; sites that add noise had been asked for the third one before, too.
    assert set(paid(resumed).values()) == {4 if spec == AT_SERVER else 5}


def _cutting(message: object, reply: object) -> None:
    raise Cut


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-3])])
def test_without_knowing_what_was_paid_nothing_goes_on(tmp_path: Path, damage: Any) -> None:
    config = config_of(tmp_path, AT_SERVER)
    sites = sites_of(config)
    sites[0].twists[1] = _cutting
    with pytest.raises(Cut):
        run(config, sites)
    damage(tmp_path / "runs" / "run" / "checkpoints" / "payments.json")
    with pytest.raises(ConfigError, match="what the sites have paid in privacy is not known"):
        run(config.model_copy(update={"resume": "run"}), sites_of(config), 101)


def test_it_is_on_disk_before_the_mean_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level, payments = privacy("fixed(noise=1.0)").level, Payments(tmp_path / "payments.json")
    private = ClientPrivacy(level, payments=payments)
    mean_of(private, ZERO, answers_of(ZERO, updates(1.0)))
    assert set(payments.kept().values()) == {1}
    monkeypatch.setattr("server.sealed_file.write_atomically", _disk_is_full)
    with pytest.raises(OSError, match="full"):
        mean_of(private, ZERO, answers_of(ZERO, updates(1.0)), 2)


def _disk_is_full(*arguments: object) -> None:
    raise OSError("the disk is full")


def test_of_checkpoint_and_file_the_larger_count_holds(tmp_path: Path) -> None:
    level, payments = privacy("fixed(noise=1.0)").level, Payments(tmp_path / "payments.json")
    payments.keep({"a": 3, "b": 1})
    private = ClientPrivacy(level, payments=payments)
    private.resume({"clip": 1.0, "paid": {"a": 2, "b": 2, "c": 1}, "rounds": []})
    assert private.state()["paid"] == {"a": 3, "b": 2, "c": 1}


def test_what_a_round_did_is_known_after_an_interruption() -> None:
    private, again = privacy("adaptive(clip=0.5, noise=0.5)"), privacy("adaptive(clip=0.5, noise=0.5)")
    mean_of(private, ZERO, answers_of(ZERO, updates(1.0)), 1)
    again.resume(json.loads(json.dumps(private.state())))
    assert again.of_round(1) == private.of_round(1)
    assert again.of_round(2) is None
