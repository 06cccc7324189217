"""A site that sits a round out: it is told why in its next message, and the run goes on without it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import EncodedState, PeftState
from fedmedpeft.exchange import flower as wire
from server.courier import Courier
from server.federation import run_federation
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

Sites = dict[int, script.ScriptedSite]


def run(config: RunConfig, sites: Sites) -> PeftState:
    directory = run_federation(config, LocalGrid(sites), [].append)
    return read_adapter(directory.path / "adapter").state


def rows(config: RunConfig, filename: str) -> list[dict[str, str]]:
    with (Path(config.runs_dir) / "run" / filename).open(newline="") as file:
        return list(csv.DictReader(file))


def outcomes(config: RunConfig, site: str) -> list[str]:
    """After joining, round by round."""
    return [row["outcome"] for row in rows(config, "sites.csv") if row["site"] == site][1:]


def moved(final: PeftState, sites: Sites) -> float:
    """How far every number has moved, all alike."""
    start = sites[11].initial
    steps = np.concatenate([final.vectors[part] - start.vectors[part] for part in start.vectors])
    assert np.ptp(steps) < 1e-3
    return float(steps.mean())


def boosted(factor: float) -> script.Twist:
    """Answer with an update that is ``factor`` times as long."""

    def twist(message: Message, reply: Any) -> Message:
        sent = wire.decode_visit_request(message.content).state.vectors
        longer = {part: sent[part] + np.float32(factor) * (v - sent[part]) for part, v in reply.state.vectors.items()}
        return script.changed(state=EncodedState(reply.state.manifest_hash, longer))(message, reply)

    return twist


def notices(site: script.ScriptedSite) -> list[str | None]:
    return [visit.notice for visit in site.visits]


def test_the_reason_on_record_is_the_one_that_the_site_is_told_and_nobody_else(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3)
    sites = script.federation_of(config)
    sites[12].twists |= {1: script.changed(steps=0), 3: script.untrained}
    run(config, sites)
    first, counted, second, last = outcomes(config, "site-1")
    assert (counted, last) == ("accepted", "evaluated")
    assert (first, second) == ("reports 0 optimiser steps", "sends back the state that it was sent, untrained")
    assert notices(sites[12]) == [None, first, None, second]
    assert notices(sites[11]) == notices(sites[13]) == [None] * 4


def test_a_site_that_goes_on_failing_is_told_the_last_reason(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3)
    sites = script.federation_of(config)
    sites[12].twists |= {1: script.changed(steps=0), 2: script.changed(samples=11)}
    run(config, sites)
    told = notices(sites[12])
    assert "0 optimiser steps" in str(told[1])
    assert "reports 11 training images" in str(told[2])
    assert told[3] is None


def test_a_notice_is_one_printable_line(tmp_path: Path) -> None:
    def rude(message: Message, reply: Any) -> Message:
        return Message(Error(105, "\x1b[31m" + "no \t\x07" * 90 + f"\n{script.PATIENT}"), reply_to=message)

    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[12].twists[1] = rude
    run(config, sites)
    notice = notices(sites[12])[1]
    assert notice is not None
    assert notice.startswith("training: no")
    assert notice.isprintable()
    assert len(notice) <= 200
    assert script.PATIENT not in notice


def test_sites_without_a_notice_still_share_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[int, Any]] = []
    ask = Courier.ask

    def recording(self: Courier, phase: str, kind: str, requests: Any, **rest: Any) -> Any:
        asked.extend([dict(requests)] * (kind == wire.VISIT))
        return ask(self, phase, kind, requests, **rest)

    monkeypatch.setattr(Courier, "ask", recording)
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[12].twists[1] = script.garbage
    run(config, sites)
    assert [len({id(request) for request in requests.values()}) for requests in asked] == [1, 2, 1]
    assert asked[1][11] is asked[1][13]
    assert asked[1][12] == replace(asked[1][11], notice=asked[1][12].notice)


@pytest.mark.parametrize(("factor", "counts"), [(100.0, False), (1e-6, False), (1.0, True), (-1.0, True)])
def test_an_update_of_another_size_sits_the_round_out(tmp_path: Path, factor: float, counts: bool) -> None:
    """One that points the other way is of the usual size: lengths do not show it."""
    config = script.run_config(tmp_path, rounds=1, weighting="uniform")
    sites = script.federation_of(config, 5)
    sites[13].twists[1] = boosted(factor)
    final = run(config, sites)
    # Sites move by 1, 2, 3 (this one), 4 and 5.
    expected = (12 + 3 * factor) / 5 if counts else 12 / 4
    assert moved(final, sites) == pytest.approx(expected, abs=1e-3)
    assert (outcomes(config, "site-2")[0] == "accepted") == counts
    assert (notices(sites[13])[1] is None) == counts
    assert rows(config, "rounds.csv")[1]["sites_used"] == ("5" if counts else "4")


def test_zero_lets_updates_of_any_length_count(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=1, weighting="uniform", outlier_spread=0.0)
    sites = script.federation_of(config, 5)
    sites[13].twists[1] = boosted(100.0)
    assert moved(run(config, sites), sites) == pytest.approx(312 / 5, abs=1e-2)


def test_a_state_of_an_earlier_round_does_not_count_again(tmp_path: Path) -> None:
    kept: list[EncodedState] = []

    def keep(message: Message, reply: Any) -> Message:
        kept.append(reply.state)
        return script.changed()(message, reply)

    config = script.run_config(tmp_path, rounds=4)
    sites = script.federation_of(config)
    sites[12].twists |= {
        1: keep,
        3: lambda message, reply: script.changed(state=kept[0])(message, reply),
    }
    run(config, sites)
    assert outcomes(config, "site-1")[:4] == ["accepted", "accepted", "sends back its state of round 1", "accepted"]


def test_a_copy_does_not_count_and_neither_does_what_it_copies(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=1, weighting="uniform")
    sites = script.federation_of(config, 4)
    sites[14].step = sites[12].step
    assert moved(run(config, sites), sites) == pytest.approx((1 + 3) / 2, abs=1e-3)
    assert outcomes(config, "site-1")[0] == outcomes(config, "site-3")[0]
    assert "another site sends" in outcomes(config, "site-1")[0]


def test_with_privacy_of_whole_sites_lengths_are_bounded_by_the_clip_alone(tmp_path: Path) -> None:
    kind = "fixed(clip=0.5, noise=0.01)"
    config = script.run_config(tmp_path, client_privacy=kind, weighting="uniform", rounds=1, inbound_factor=0.0)
    sites = script.federation_of(config, 5)
    sites[13].twists[1] = boosted(100.0)
    run(config, sites)
    assert outcomes(config, "site-2")[0] == "accepted"


def test_what_an_outlier_spent_is_spent(tmp_path: Path) -> None:
    def private(more: Callable[[Message, Any], Message | None], epsilon: float) -> script.Twist:
        said = {"private": "patient", "epsilon": epsilon, "delta": 1e-4}
        return lambda message, reply: more(message, replace(reply, **said))

    config = script.run_config(tmp_path, rounds=2)
    sites = script.federation_of(config, 5)
    answer = script.changed()
    joins = script.changed(private="patient")
    sites[13].twists |= {"join": joins, 1: private(answer, 1.0), 2: private(boosted(100.0), 2.0), 3: script.silent}
    run(config, sites)
    summary = json.loads((tmp_path / "runs" / "run" / "summary.json").read_text())
    assert summary["privacy"]["site-2"]["epsilon"] == 2.0


def test_a_site_that_withholds_takes_part_and_is_in_no_figure(tmp_path: Path) -> None:
    silent = script.changed(before={}, loss=math.nan, withheld="val,test,loss")
    config = script.run_config(tmp_path, rounds=1, weighting="uniform")
    sites = script.federation_of(config)
    sites[13].twists |= {1: silent, 2: silent}
    assert moved(run(config, sites), sites) == pytest.approx(2.0, abs=1e-3)
    assert outcomes(config, "site-2") == ["accepted", "evaluated"]
    table = [row for row in rows(config, "sites.csv") if row["site"] == "site-2"]
    assert [row["withheld"] for row in table] == ["", "val test loss", "val test loss"]
    assert [(r["sites_scored"], r["sites_withholding"]) for r in rows(config, "rounds.csv")] == [("2", "1"), ("2", "1")]
    summary = json.loads((tmp_path / "runs" / "run" / "summary.json").read_text())
    assert summary["withheld"] == {"site-2": ["val", "test", "loss"]}
    assert set(summary["results"]["federated"]["sites"]) == {"site-0", "site-1"}
    card = (tmp_path / "runs" / "run" / "MODEL_CARD.md").read_text()
    assert "1 site keeps its test scores" in card
