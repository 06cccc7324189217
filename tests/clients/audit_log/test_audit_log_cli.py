"""``fedmedpeft audit-log``, as a cautious person at a hospital uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients.audit_log.audit_log import AuditLog
from fedmedpeft.cli import _ROOMS, app
from tests.clients.audit_log.events_of_a_run import ALL, OTHER_RUN, RUN

_SITE_FILE = """
site: Basel
server: {address: "fed.example.org:443", ca-certificate: ca.crt, key: site.key}
data: {source: "manifest(path=labels.csv)"}
"""


@pytest.fixture(autouse=True)
def _mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_ROOMS, "audit-log", "clients.audit_log.cli")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file, and the log of a site that took part in two runs."""
    path = tmp_path / "site.yaml"
    path.write_text(_SITE_FILE)
    log = AuditLog.open(_log(path), site="Basel")
    for event in ALL:
        log.note(event)
    return path


def _log(site: Path) -> Path:
    return site.parent / "state" / "audit" / "audit-log.jsonl"


def _audit_log(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["audit-log", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def _last_hash(site: Path) -> str:
    return next(line.split()[-1] for line in _audit_log("verify", site)[1].splitlines() if line.startswith("Last hash"))


@pytest.mark.parametrize("command", ["verify", "show"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    code, out, _ = _audit_log(command, "--help")
    assert code == 0
    assert f"fedmedpeft audit-log {command}" in out.partition("Example")[2]


def test_verify_says_what_to_write_down(site: Path) -> None:
    code, out, error = _audit_log("verify", site)
    assert (code, error) == (0, "")
    assert f"{_log(site)}: {len(ALL) + 1} lines, as they were written." in out
    for label, line in (("First line", 0), ("Last line", -1)):
        assert f"{label}  " in out
        assert json.loads(_log(site).read_text().splitlines()[line])["time"] in out
    assert json.loads(_log(site).with_name("audit-log.jsonl.head").read_text())["hash"] == _last_hash(site)
    assert _audit_log("verify", _log(site)) == (code, out, error)


def test_verify_against_a_hash_that_was_written_down(site: Path) -> None:
    noted = _last_hash(site)
    AuditLog.open(_log(site), site="Basel").note(ALL[0])
    for hash_ in (noted, noted[:16]):
        code, out, _ = _audit_log("verify", site, "--against", hash_)
        assert code == 0
        assert f"is that of line {len(ALL) + 1}, of 20" in out


def test_a_log_that_was_written_anew_does_not_have_that_hash(site: Path) -> None:
    noted = _last_hash(site)
    for file in _log(site).parent.iterdir():
        file.unlink()
    log = AuditLog.open(_log(site), site="Basel")
    for event in ALL[:5]:
        log.note(event)
    assert _audit_log("verify", site)[0] == 0
    code, out, error = _audit_log("verify", site, "--against", noted)
    assert (code, out) == (1, "")
    assert f"None of its 6 lines has the hash {noted}" in error


@pytest.mark.parametrize("hash_", ["abc", "A" * 64, "0" * 65, "x" * 64])
def test_what_can_be_no_hash_is_a_mistake_of_the_caller(site: Path, hash_: str) -> None:
    code, _, error = _audit_log("verify", site, "--against", hash_)
    assert code == 2
    assert "give its 16 to 64 first digits" in error


def test_verify_names_the_line_that_was_edited(site: Path) -> None:
    _log(site).write_bytes(_log(site).read_bytes().replace(b'"code":"POLICY"', b'"code":"LATER"'))
    for command in ("verify", "show"):
        code, out, error = _audit_log(command, site)
        assert (code, out) == (1, "")
        assert "does not verify. Line 10 was edited: its hash does not fit what it says." in error


def test_a_torn_last_line_is_a_note(site: Path) -> None:
    with _log(site).open("ab") as file:
        file.write(b'{"kind"')
    code, out, error = _audit_log("verify", site)
    assert code == 0
    assert f"{len(ALL) + 1} lines, as they were written" in out
    assert "Its last line was torn when a process was killed; nothing had left for it." in error


def test_show_is_a_line_for_each_and_sums(site: Path) -> None:
    code, out, _ = _audit_log("show", site)
    assert code == 0
    lines = out.splitlines()

    def row(what: str) -> str:
        return next(line for line in lines if f"│ {what} " in line)

    assert "site 'Basel' begins" in row("opened")
    assert "visit; norm 12.5; message c1c1c1c1c1c1" in row("asked")
    assert "10 steps on 180 records in 4.2 s, data a1a1a1a1a1a1, private per patient" in row("trained")
    for cell in ("101,500", "1.75", "head of 330 numbers, method of 25,000 numbers", "update norm 0.31235"):
        assert cell in row("left")
    assert "scores val/accuracy, val/auroc; withheld test" in row("left")
    assert "POLICY (policy): policy: method 'full' is not allowed here" in row("refused")
    assert "the server says: norm 90" in row("notice")
    sums = "\n".join(lines).partition("All of each run")[2].splitlines()
    ours = next(line for line in sums if RUN in line)
    assert [cell.strip() for cell in ours.strip("│").split("│")] == [
        RUN, "1", "101,000", "1", "2", "203,000", "0", "1.75", "0",
    ]  # fmt: skip
    assert "1 POLICY" in next(line for line in sums if OTHER_RUN in line)


def test_show_of_one_run_as_json(site: Path) -> None:
    code, out, _ = _audit_log("show", site, "--run", OTHER_RUN, "--last", 2, "--json")
    shown = json.loads(out)
    assert code == 0
    assert [line["kind"] for line in shown["lines"]] == ["refused", "dry_run"]
    assert list(shown["runs"]) == [OTHER_RUN]
    sums = shown["runs"][OTHER_RUN]
    assert (sums["asked"], sums["bytes_out"], sums["dry_runs"], sums["refusals"]) == (1, 0, 1, {"POLICY": 1})


def test_show_of_a_run_that_is_not_there(site: Path) -> None:
    code, _, error = _audit_log("show", site, "--run", "lora-2")
    assert code == 2
    assert f"has no run 'lora-2'. Did you mean '{RUN}'? It has: {RUN}, {OTHER_RUN}." in error


def test_a_path_that_holds_no_log(site: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "x.jsonl", "There is no audit log"), (tmp_path, "is a directory. Name the site's")):
        code, _, error = _audit_log("verify", path)
        assert code == 2
        assert why in error
    _log(site).unlink()
    code, _, error = _audit_log("verify", site)
    assert code == 1
    assert "The file is gone, but its head file is there." in error
