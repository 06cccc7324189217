from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from fedmedpeft.cli import app
from fedmedpeft.file_lock import locked
from server.errors import FederationError
from server.federation import run_federation
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script
from tests.server.test_resume import after_round


def _runs(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["runs", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One completed run and a later one that was cut off."""
    directory = tmp_path_factory.mktemp("runs")
    config = script.run_config(directory, references="local-only")
    done = run_federation(config, LocalGrid(script.federation_of(config)), lambda line: None).path
    cut = done.with_name("cut-off")
    cut.mkdir()
    (cut / "config.toml").write_bytes((done / "config.toml").read_bytes())
    os.utime(done, (1, 1))
    return done.parent


def test_list_has_a_line_per_run_oldest_first(runs_dir: Path) -> None:
    code, out, _ = _runs("list", "--runs-dir", str(runs_dir))
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[2:4]] == ["run", "cut-off"]
    assert "+0.100" in lines[2]
    assert lines[3].split()[-4:] == ["-"] * 4
    assert lines[4:] == ["cut-off: interrupted before the first round. See: fedmedpeft runs show cut-off"]


def test_list_as_json_holds_what_the_summary_says(runs_dir: Path) -> None:
    _, out, _ = _runs("list", "--runs-dir", str(runs_dir), "--json")
    done, cut = json.loads(out)
    summary = json.loads((runs_dir / "run" / "summary.json").read_text())
    assert done["mean"] == summary["results"]["federated"]["mean"]
    assert done["MB"] == (summary["traffic"]["down_bytes"] + summary["traffic"]["up_bytes"]) / 1e6
    assert done["gain"] == pytest.approx(0.1)
    assert (done["completed"], cut["completed"], cut["mean"]) == (True, False, None)
    assert (done["state"], cut["state"]) == ("complete", "interrupted before the first round")


@pytest.mark.parametrize("by_path", [True, False])
def test_show_by_name_or_directory(runs_dir: Path, by_path: bool) -> None:
    name = str(runs_dir / "run") if by_path else "run"
    code, out, _ = _runs("show", name, "--runs-dir", str(runs_dir))
    assert code == 0
    assert "aggregated" in out
    assert "Test balanced accuracy" in out
    assert "SYNTHETIC DATA" in out


def test_show_says_that_a_run_was_cut_off(runs_dir: Path) -> None:
    code, out, _ = _runs("show", "cut-off", "--runs-dir", str(runs_dir))
    assert code == 0
    assert "has not come to its end" in out


def test_show_says_how_a_run_goes_on(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3)
    path = after_round(config, 2)
    code, out, _ = _runs("show", str(path))
    assert code == 0
    assert "interrupted after round 2" in out
    assert f"fedmedpeft server submit '{path / 'resume.toml'}' --kit KIT" in out
    with locked(path / ".lock", wait=False):
        _, out, _ = _runs("show", str(path))
    assert "has not come to its end: running." in out
    assert "go on with" not in out


def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, min_sites=3)
    sites = script.federation_of(config)
    sites[12].twists["join"] = script.refusing
    with pytest.raises(FederationError):
        run_federation(config, LocalGrid(sites), lambda line: None)
    why = "failed before the first round: 2 sites can take part, 3 are needed. Left out: node 12: data: too few images"
    code, out, _ = _runs("list", "--runs-dir", str(tmp_path / "runs"))
    assert code == 0
    assert f"run: {why}" in out
    _, out, _ = _runs("show", "run", "--runs-dir", str(tmp_path / "runs"))
    assert f"The run has not come to its end: {why} can be read.\n" in out
    _, out, _ = _runs("show", "run", "--runs-dir", str(tmp_path / "runs"), "--json")
    assert json.loads(out) == {"run": "run", "state": f"{why} can be read."}
    _, out, _ = _runs("list", "--runs-dir", str(tmp_path / "runs"), "--json")
    assert json.loads(out)[0]["data"] == "-"


@pytest.mark.parametrize(
    ("partition", "data", "command"), [("", "each site's own", "server submit"), ("a1", "phantoms", "run --config")]
)
def test_data_is_the_sites_own_unless_the_run_divided_it(
    runs_dir: Path, tmp_path: Path, partition: str, data: str, command: str
) -> None:
    (tmp_path / "cut").mkdir()
    content = tomllib.loads((runs_dir / "run" / "config.toml").read_text())
    assert content["federation"]["partition-hash"] == ""
    content["federation"]["partition-hash"] = partition
    (tmp_path / "cut" / "config.toml").write_text(tomli_w.dumps(content))
    (tmp_path / "cut" / "resume.toml").touch()
    assert json.loads(_runs("list", "--runs-dir", str(tmp_path), "--json")[1])[0]["data"].startswith(data)
    lines = [line for line in _runs("show", str(tmp_path / "cut"))[1].splitlines() if "go on with" in line]
    assert [f"fedmedpeft {command} '" in line for line in lines] == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "runn"), "Did you mean 'run'?"),
        (("show", "run", "--runs-dir", "/nowhere"), "no directory '/nowhere'"),
        (("list", "--runs-dir", "/nowhere"), "no directory '/nowhere'"),
    ],
)
def test_what_is_not_there_is_named(runs_dir: Path, arguments: tuple[str, ...], message: str) -> None:
    given = arguments if "--runs-dir" in arguments else (*arguments, "--runs-dir", str(runs_dir))
    code, _, err = _runs(*given)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("file", "content"), [("config.toml", "config = ["), ("summary.json", "{")])
def test_a_damaged_file_is_named(tmp_path: Path, runs_dir: Path, file: str, content: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.toml", "summary.json"):
        (run / name).write_bytes((runs_dir / "run" / name).read_bytes())
    (run / file).write_text(content)
    code, _, err = _runs("list", "--runs-dir", str(tmp_path))
    assert code == 2
    assert f"{file}' is damaged" in err
