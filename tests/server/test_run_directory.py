from __future__ import annotations

import csv
import json
import math
import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.records import ReferenceRecord, RoundRecord, SiteRecord
from server.run_directory import RunDirectory, run_name
from tests.server.scripted_sites import run_config, scores


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    names = [RunDirectory.create(config).name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


def test_a_relative_directory_is_below_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunDirectory.create(run_config(tmp_path, runs_dir="here")).path == tmp_path / "here" / "run"


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="runs-dir=.*cannot be made"):
        RunDirectory.create(run_config(tmp_path, runs_dir=str(tmp_path / "file")))


def test_names_are_made_from_method_data_and_time() -> None:
    config = RunConfig(method="vpt-deep(tokens=5)+lora", data="folder(path='/a/b')")
    assert run_name(config, datetime(2026, 1, 2, 3, 4, 5)) == "lora+vpt-deep-folder-20260102-030405"
    assert run_name(RunConfig(method="peft:oft", data="phantoms"), datetime(2026, 1, 2)).startswith(
        "peft-oft-phantoms-"
    )
    assert run_name(config, datetime(2026, 1, 2, 3, 4, 5), simulated=False) == "lora+vpt-deep-20260102-030405"


def test_the_configuration_is_complete_and_read_back_as_it_was(tmp_path: Path) -> None:
    config = run_config(tmp_path, method="lora(rank=2)", seed=7)
    content = tomllib.loads((RunDirectory.create(config).path / "config.toml").read_text())
    assert RunConfig.from_mapping(content["config"]) == config
    assert {"fedmedpeft", "python", "flwr", "torch"} <= set(content["versions"])


def test_rows_that_are_put_back_replace_what_is_there(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path))
    directory.add_round(RoundRecord(0, 2, 2, "joined", 1, 2, 0.1 + 0.2))
    directory.add_sites([SiteRecord(0, "a", "joined", 10)])
    rounds, sites = directory.rows()
    files = [directory.path / name for name in ("rounds.csv", "sites.csv")]
    before = [file.read_bytes() for file in files]
    directory.add_round(RoundRecord(1, 2, 2, "aggregated", 3, 4, 0.5))
    directory.add_sites([SiteRecord(1, "a", "accepted", 10)])
    again = RunDirectory(directory.path, directory.config)
    again.put_back(json.loads(json.dumps(rounds)), json.loads(json.dumps(sites)))
    assert [file.read_bytes() for file in files] == before
    again.add_round(RoundRecord(1, 2, 2, "aggregated", 3, 4, 0.5))
    assert len(files[0].read_text().splitlines()) == 3
    again.put_back([], sites)
    assert not files[0].exists()


def test_how_to_resume_is_there_until_the_run_is_complete(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path, seed=7))
    text = (directory.path / "resume.toml").read_text()
    assert f"fedmedpeft run --config '{directory.path / 'resume.toml'}'" in text
    assert RunConfig.from_mapping(tomllib.loads(text)) == directory.config.model_copy(update={"resume": "run"})
    directory.write_summary({})
    assert not (directory.path / "resume.toml").exists()


def test_tables_grow_row_by_row(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path))
    directory.add_round(RoundRecord(0, 2, 2, "joined", 1, 2, 0.5))
    directory.add_round(
        RoundRecord(1, 2, 2, "aggregated", 3, 4, 0.5, {"a": scores(3, 1), "b": scores(1, 1)}, ("x", "y"))
    )
    lines = (directory.path / "rounds.csv").read_text().splitlines()
    assert lines[1] == "0,joined,,,,,0,0,2,2,2,1,0.5,,,,"
    assert lines[2] == "1,aggregated,0.7,0.625,b,0.5,2,0,2,2,4,3,0.5,x y,,,"
    directory.add_sites([SiteRecord(1, "a", "accepted", 10, 5, 0.25, {"val": scores(3, 1)}, 7, 8, 0.5, ("x",))])
    directory.add_sites([SiteRecord(2, "a", 'no "answer", none')])
    lines = (directory.path / "sites.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("1,a,accepted,10,5,0.25,8,0.7,0.75,0.75,")
    assert lines[1].endswith(",8,7,0.5,x,,,,")
    assert lines[2].startswith('2,a,"no ""answer"", none",0,0,,')


def test_the_personalised_copy_has_its_own_columns(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path))
    directory.add_sites([SiteRecord(3, "a", "evaluated", scores={"test": scores(3, 1), "own-test": scores(4, 0)})])
    with (directory.path / "sites.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["received_test_balanced_accuracy"], row["own_test_balanced_accuracy"]) == ("0.75", "1")


def test_a_reference_that_failed_has_a_row_too(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path))
    directory.write_references([ReferenceRecord("pooled", "a", "refused")])
    assert (directory.path / "references.csv").read_text().splitlines()[1].startswith("pooled,a,refused,")


def test_the_summary_is_plain_json_without_nan(tmp_path: Path) -> None:
    directory = RunDirectory.create(run_config(tmp_path))
    directory.write_summary({"a": math.nan, "b": [math.inf, 1.0], "c": {"d": (1, None)}})
    assert json.loads((directory.path / "summary.json").read_text()) == {
        "a": None,
        "b": [None, 1.0],
        "c": {"d": [1, None]},
    }
