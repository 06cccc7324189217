from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import pytest

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange.flower import wire_bytes
from server.data_words import SYNTHETIC_WARNING
from server.errors import FederationError
from server.federation import run_federation
from server.run_state import state_of_run
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


def test_a_run_leaves_everything_behind(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="local-only", method="lora(rank=2)")
    said: list[str] = []
    directory = run_federation(config, LocalGrid(script.federation_of(config)), said.append)
    names = {str(path.relative_to(directory.path)) for path in directory.path.rglob("*") if path.is_file()}
    assert names == {
        "config.toml",
        "rounds.csv",
        "sites.csv",
        "references.csv",
        "summary.json",
        "MODEL_CARD.md",
        ".lock",
        "history.json",
        "checkpoints/round-0001.json",
        "checkpoints/round-0001.safetensors",
        "checkpoints/round-0002.json",
        "checkpoints/round-0002.safetensors",
        "adapter/fedmedpeft_adapter.safetensors",
        "adapter/fedmedpeft_adapter.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "adapter/README.md",
    }
    assert said[0] == said[-1] == f"Run directory: {directory.path}"
    assert said.count(SYNTHETIC_WARNING) == 2
    adapter = read_adapter(directory.path / "adapter")
    assert (adapter.config.method, adapter.config.run, adapter.config.synthetic) == ("lora(rank=2)", "run", True)
    content = tomllib.loads((directory.path / "config.toml").read_text())
    assert RunConfig.from_mapping(content["config"]) == config.model_copy(update={"sites": 3})
    assert content["federation"]["fingerprint"] == script.FINGERPRINT
    assert content["federation"]["sites"]["site-2"] == {"train": 30, "val": 20, "test": 20}
    assert json.loads((directory.path / "summary.json").read_text())["gains"]["site-0"] == pytest.approx(0.1)


def test_the_adapter_is_the_last_state_that_the_sites_tested(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    directory = run_federation(config, LocalGrid(sites), [].append)
    state = read_adapter(directory.path / "adapter").state
    tested = sites[11].visits[-1]
    assert tested.last
    assert {part: vector.tolist() for part, vector in tested.state.vectors.items()} == {
        part: vector.tolist() for part, vector in state.vectors.items()
    }


def test_what_sites_make_of_the_result_alone_is_shown_beside_it(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="local-only")
    sites = script.federation_of(config)
    for site in sites.values():
        site.own = 9
    said: list[str] = []
    directory = run_federation(config, LocalGrid(sites), said.append)
    summary = json.loads((directory.path / "summary.json").read_text())
    assert summary["results"]["personalised"]["mean"] == pytest.approx(0.9)
    assert summary["personalised_gains"]["site-1"] == pytest.approx(0.2)
    assert any("personalised" in line for line in said)


def test_a_personal_part_is_in_no_message_and_not_in_the_adapter(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, personal="head")
    sites = script.federation_of(config)
    directory = run_federation(config, LocalGrid(sites), [].append)
    assert all(set(visit.state.vectors) == {"method"} for visit in sites[11].visits)
    adapter = read_adapter(directory.path / "adapter")
    assert adapter.config.personal == ("head",)
    assert {tensor.part for tensor in adapter.config.tensors} == {"method"}


def test_reported_bytes_are_those_of_every_message_in_both_directions(tmp_path: Path) -> None:
    sent: dict[str, int] = {"down": 0, "up": 0}

    class Weighing(LocalGrid):
        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            sent["down"] += sum(wire_bytes(message.content) for message in messages)
            return super().push_messages(messages)

        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            replies = super().pull_messages(message_ids)
            sent["up"] += sum(wire_bytes(reply.content) for reply in replies if reply.has_content())
            return replies

    config = script.run_config(tmp_path, references="all")
    sites = script.federation_of(config)
    sites[12].twists[1] = script.raising
    directory = run_federation(config, Weighing(sites), [].append)
    traffic = json.loads((directory.path / "summary.json").read_text())["traffic"]
    assert (traffic["down_bytes"], traffic["up_bytes"]) == (sent["down"], sent["up"])
    # One to join, three down in each of two rounds and at the end, and what came up: two, then three.
    assert traffic["states_exchanged"] == 1 + 3 * 3 + 2 + 3
    with (directory.path / "sites.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["bytes_up"]) for row in rows) == sent["up"] - traffic["phases"]["references"]["up_bytes"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "fedavgg"}, "Did you mean 'fedavg'"),
        ({"method": "lorra"}, "Did you mean 'lora'"),
        ({"method": "lora(rnk=1)"}, "Did you mean 'rank'"),
    ],
)
def test_a_wrong_component_is_found_before_anything_is_written(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    grid = LocalGrid(script.federation_of(script.run_config(tmp_path)))
    with pytest.raises(ConfigError, match=message):
        run_federation(script.run_config(tmp_path, **changes), grid, [].append)
    assert not grid.log
    assert not (tmp_path / "runs").exists()


def test_a_robust_strategy_without_enough_sites_is_refused_before_training(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, strategy="krum(malicious=1)")
    sites = script.federation_of(config)
    with pytest.raises(ConfigError, match="needs 5 sites"):
        run_federation(config, LocalGrid(sites), [].append)
    assert not sites[11].visits


def test_a_run_that_learned_nothing_has_failed_and_gives_no_adapter(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    for site in sites.values():
        site.twists = {1: script.refusing, 2: script.refusing}
    with pytest.raises(FederationError, match="nothing was learned"):
        run_federation(config, LocalGrid(sites), [].append)
    for name in ("adapter", "summary.json", "MODEL_CARD.md"):
        assert not (tmp_path / "runs" / "run" / name).exists()
    assert (tmp_path / "runs" / "run" / "sites.csv").exists()
    assert state_of_run(tmp_path / "runs" / "run").startswith(
        "failed after round 2: No round had enough usable answers"
    )


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError(script.PATIENT), "failed before the first round: an error in the program (RuntimeError);"),
        (ConfigError(f"no good\n{script.PATIENT}"), "failed before the first round: no good"),
        (KeyboardInterrupt(), "interrupted before the first round"),
    ],
)
def test_how_a_run_ended_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, state: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    config = script.run_config(tmp_path)
    monkeypatch.setattr("server.federation.train_references", fail)
    with pytest.raises(type(error)):
        run_federation(config, LocalGrid(script.federation_of(config)), [].append)
    found = state_of_run(tmp_path / "runs" / "run")
    assert found.startswith(state)
    assert script.PATIENT not in found


def test_a_full_disk_does_not_hide_why_a_run_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    config = script.run_config(tmp_path, min_sites=4)
    monkeypatch.setattr("server.run_directory.RunDirectory.write_failure", full)
    with pytest.raises(FederationError, match="3 sites can take part, 4 are needed|3 of 4 sites"):
        run_federation(config, LocalGrid(script.federation_of(config)), [].append)


def test_nothing_that_a_failing_site_says_beyond_its_reason_is_kept(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="local-only")
    sites = script.federation_of(config)
    sites[12].twists = dict.fromkeys(("reference", 1, 2, 3), script.raising)
    said: list[str] = []
    directory = run_federation(config, LocalGrid(sites), said.append)
    written = "".join(p.read_text() for p in directory.path.rglob("*") if p.suffix in (".csv", ".json", ".md", ".toml"))
    assert script.PATIENT not in written
    assert script.PATIENT not in "".join(said)
