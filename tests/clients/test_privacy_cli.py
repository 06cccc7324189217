from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedpeft.cli import app
from fedmedpeft.privacy.accountant import Spending, epsilon
from fedmedpeft.privacy.ledger import Ledger

_ROUND = Spending(1.0, 0.05, 10)
_DATA = "a1" * 32


def _privacy(*arguments: str, answer: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["privacy", *arguments], input=answer)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two ledgers: a patient's epsilon in Basel after two rounds, a record's in Chur, who has spent nothing."""
    directory = tmp_path / "ledgers"
    basel = Ledger.open(directory / "Basel.ledger.jsonl", data_hash=_DATA, unit="patient", units=500, delta=1e-5)
    for number in (1, 2):
        basel.spend("run", number, _ROUND, budget=8.0)
    Ledger.open(directory / "runs" / "Chur.ledger.jsonl", data_hash="c3" * 32, unit="record", units=50)
    return directory


def _basel(directory: Path) -> Path:
    return directory / "Basel.ledger.jsonl"


def _damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"steps":10', b'"steps":11', 1))


@pytest.mark.parametrize("command", ["show", "verify", "plan", "adopt", "reference", "distance"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    code, out, _ = _privacy(command, "--help")
    assert code == 0
    assert f"fedmedpeft privacy {command}" in out.partition("Example")[2]


def test_show_says_what_each_data_set_has_spent(directory: Path) -> None:
    code, out, _ = _privacy("show", str(directory))
    assert code == 0
    basel, chur = (next(line for line in out.splitlines() if name in line) for name in ("Basel", "Chur"))
    for cell in ("a1a1a1a1a1a1", "patient", f"{epsilon([_ROUND] * 2, 1e-5):.3f}", "1e-05"):
        assert cell in basel
    for cell in ("record", "0.000", "0.002", " - "):
        assert cell in chur


def test_show_as_json_with_every_line(directory: Path) -> None:
    code, out, _ = _privacy("show", str(_basel(directory)), "--json", "--lines")
    (shown,) = json.loads(out)
    assert code == 0
    assert (shown["runs"], shown["rounds"], shown["steps"], shown["units"]) == (1, 2, 20, 500)
    assert shown["epsilon_rdp"] == epsilon([_ROUND] * 2, 1e-5) > shown["epsilon_prv"]
    assert [line["kind"] for line in shown["lines"]] == ["opened", "spent", "spent"]
    assert shown["last_spent"] == shown["lines"][-1]["time"]


def test_show_with_lines_is_the_history(directory: Path) -> None:
    Ledger.read(_basel(directory)).adopt("b2" * 32, "two scans relabelled")
    _, out, _ = _privacy("show", str(_basel(directory)), "--lines")
    assert [kind for kind in ("opened", "spent", "adopted") if f" {kind} " in out] == ["opened", "spent", "adopted"]
    assert "b2b2b2b2b2b2 two scans relabelled" in out


def test_one_damaged_ledger_does_not_hide_the_others(directory: Path) -> None:
    _damage(_basel(directory))
    code, out, error = _privacy("show", str(directory))
    assert code == 1
    assert "Chur" in out
    assert "Line 2 was edited" in error
    assert len(error.splitlines()) == 1


def test_verify_has_an_exit_code(directory: Path) -> None:
    code, out, error = _privacy("verify", str(directory))
    assert (code, error) == (0, "")
    assert "Basel.ledger.jsonl: 3 lines, as they were written." in out
    _damage(_basel(directory))
    code, out, error = _privacy("verify", str(directory))
    assert code == 1
    assert "Line 2 was edited" in error
    assert "Basel" not in out


def test_verify_misses_a_ledger_of_which_only_the_head_file_is_left(directory: Path) -> None:
    _basel(directory).unlink()
    for named in (directory, _basel(directory)):
        code, _, error = _privacy("verify", str(named))
        assert code == 1
        assert "file is gone" in error


def test_verify_says_what_a_crash_left_and_leaves_it(directory: Path) -> None:
    with _basel(directory).open("ab") as file:
        file.write(b'{"acc')
    before = _basel(directory).read_bytes()
    code, _, error = _privacy("verify", str(_basel(directory)))
    assert code == 0
    assert "torn" in error
    assert _basel(directory).read_bytes() == before


@pytest.mark.parametrize("command", ["show", "verify"])
def test_where_there_is_no_ledger(command: str, tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "holds no privacy ledger"),
        (tmp_path / "x.ledger.jsonl", "There is no privacy ledger"),
    ):
        code, _, error = _privacy(command, str(path))
        assert code == 2
        assert why in error
        assert len(error.splitlines()) == 1


def test_plan_finds_the_noise_for_a_budget() -> None:
    sizes = ("--records", "2000", "--batch", "32", "--rounds", "7", "--steps", "10")
    code, out, _ = _privacy("plan", "--epsilon", "8", *sizes, "--unit", "patient", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["sample_rate"], plan["delta"], plan["unit"]) == (0.016, 1 / 20_000, "patient")
    assert [cost["rounds"] for cost in plan["costs"]] == [1, 5, 7]
    assert plan["noise_to_signal"] == plan["noise_multiplier"] / 32
    assert 7.9 < plan["costs"][-1]["rdp"] <= 8 > plan["costs"][-1]["prv"]
    assert plan["costs"][-1]["rdp"] == epsilon([Spending(plan["noise_multiplier"], 0.016, 70)], 1 / 20_000)
    assert plan["noise_multiplier_prv"] < plan["noise_multiplier"]


def test_plan_counts_in_what_a_ledger_has_spent(directory: Path) -> None:
    arguments = ("plan", "--noise", "2", "--batch", "25", "--rounds", "1", "--ledger", str(_basel(directory)))
    code, out, _ = _privacy(*arguments)
    assert code == 0
    assert "Epsilon per patient at delta 1e-05" in out
    assert f"{epsilon([_ROUND] * 2, 1e-5):.3f} (rdp)" in out
    assert f"{epsilon([_ROUND, _ROUND, Spending(2.0, 0.05, 10)], 1e-5):.3f}" in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "either --epsilon"),
        (("--epsilon", "8", "--noise", "1"), "either --epsilon"),
        (("--epsilon", "8"), "Give --records"),
        (("--epsilon", "8", "--records", "20"), "--batch 32 is more than the 20 records"),
        (("--epsilon", "0", "--records", "200"), "target epsilon"),
        (("--epsilon", "0.0001", "--records", "200", "--delta", "1e-9"), "No noise multiplier up to 10000"),
        (("--noise", "0", "--records", "200"), "noise_multiplier=0.0 must"),
        (("--noise", "1", "--records", "200", "--delta", "0"), "delta=0 must"),
        (("--noise", "1", "--records", "200", "--delta", "0.1"), "below 1/n = 0.005"),
        (("--noise", "1", "--records", "200", "--unit", "person"), "none of record, image, patient"),
    ],
)
def test_plan_refuses_what_cannot_be(arguments: tuple[str, ...], why: str) -> None:
    code, _, error = _privacy("plan", *arguments)
    assert code == 2
    assert why in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("term", [("--unit", "record"), ("--delta", "1e-6")])
def test_plan_with_a_ledger_keeps_its_terms(directory: Path, term: tuple[str, str]) -> None:
    code, _, error = _privacy("plan", "--noise", "1", "--ledger", str(_basel(directory)), *term)
    assert code == 2
    assert "counts per patient at delta=1e-05" in error


def test_plan_says_where_prv_is_no_bound() -> None:
    code, _, error = _privacy("plan", "--noise", "1", "--records", "200", "--rounds", "1", "--delta", "1e-12")
    assert code == 0
    assert error.startswith("Note: prv cannot be trusted")


def test_adopt_asks_first(directory: Path) -> None:
    arguments = ("adopt", str(_basel(directory)), "--data-hash", "b2" * 32, "--reason", "relabelled")
    code, out, _ = _privacy(*arguments, answer="n\n")
    assert code == 1
    assert "keeps counting" in out
    assert Ledger.read(_basel(directory)).data_hash == _DATA
    code, out, _ = _privacy(*arguments, "--units", "510", answer="y\n")
    ledger = Ledger.read(_basel(directory))
    assert (code, ledger.data_hash, ledger.units) == (0, "b2" * 32, 510)
    assert ledger.epsilon() == epsilon([_ROUND] * 2, 1e-5)
    code, _, error = _privacy(*arguments, "--yes")
    assert code == 1
    assert "about that data set already" in error


@pytest.mark.parametrize("data_hash", ["b2b2b2b2b2b2", "B2" * 32, ""])
def test_a_part_of_a_hash_is_not_adopted(directory: Path, data_hash: str) -> None:
    before = _basel(directory).read_bytes()
    code, _, error = _privacy("adopt", str(_basel(directory)), "--data-hash", data_hash, "--reason", "x", "--yes")
    assert code == 2
    assert "64 digits" in error
    assert _basel(directory).read_bytes() == before
