"""``site hash`` says what to write into site.yaml, and what the policy there says of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from clients.egress.hash_command import hash_command
from clients.egress.run_hash import read_run, run_hash

_SITE = """\
site: hospital-a
server: {address: "federation.example:9092", ca-certificate: ca.crt, key: site.key}
data: {source: "folder(path=images)"}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('method = "lora(rank=8)"\nrounds = 20\n')
    return path


def _site(tmp_path: Path, policy: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(f"{_SITE}policy: {{{policy}}}\n")
    return path


def test_the_hash_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hash_command(run)
    assert capsys.readouterr().out == f"{run_hash(read_run(run))}\n"


def test_a_run_that_is_allowed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hash_command(run, _site(tmp_path, 'hours: "20:00-06:00"'))
    assert capsys.readouterr().out.splitlines()[1:] == ["hospital-a takes part: 20:00-06:00."]


def test_a_run_that_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        hash_command(run, _site(tmp_path, "approved-runs: [abc], most-rounds: 5"))
    out = capsys.readouterr().out
    assert caught.value.exit_code == 1
    assert "most-rounds: 5" in out
    assert f"approved-runs: [{run_hash(read_run(run))}]" in out


def test_the_hash_it_prints_approves_the_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hash_command(run, _site(tmp_path, f"approved-runs: [{run_hash(read_run(run))}], methods: [ssf]"))
    assert "takes part" in capsys.readouterr().out
