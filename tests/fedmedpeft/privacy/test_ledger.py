from __future__ import annotations

import json
import logging
import math
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmedpeft.privacy.accountant import BudgetExceeded, Spending, epsilon
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.ledger_lines import Opened, Planned, Spent
from tests.fedmedpeft.privacy.ledgers import DATA, ROUND, files_beside, open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sites" / "Basel.ledger.jsonl"


def test_a_new_ledger_says_what_it_is_about_and_has_spent_nothing(path: Path) -> None:
    ledger = open_ledger(path)
    assert (ledger.data_hash, ledger.unit, ledger.units, ledger.delta) == (DATA, "patient", 500, 1e-5)
    assert (ledger.history, ledger.epsilon(), ledger.mended) == ((), 0.0, ())
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["format"] == 1
    assert json.loads(line)["seq"] == 1


def test_only_the_sites_user_may_read_it(path: Path) -> None:
    open_ledger(path).spend("run", 1, ROUND, budget=8.0)
    for file in (path, path.with_name(f"{path.name}.head")):
        assert file.stat().st_mode & 0o777 == 0o600


def test_what_was_spent_is_there_for_whoever_opens_it_next(path: Path) -> None:
    first = open_ledger(path)
    after = [first.spend("one", number, ROUND, budget=8.0) for number in (1, 2)]
    other = Spending(2.0, 0.1, 7)
    again = open_ledger(path)
    after.append(again.spend("two", 1, other, budget=8.0))
    assert again.history == (ROUND, ROUND, other)
    assert after == sorted(after)
    assert after[-1] == again.epsilon() == epsilon([ROUND, ROUND, other], 1e-5)
    assert Ledger.read(path).epsilon("prv") == epsilon([ROUND, ROUND, other], 1e-5, "prv")


def test_a_line_holds_all_that_an_auditor_asks_for(path: Path) -> None:
    ledger = open_ledger(path)
    after = ledger.spend("run", 3, ROUND, budget=8.0)
    line = ledger.entries[-1]
    assert isinstance(line, Spent)
    assert (line.run, line.round, line.noise_multiplier, line.sample_rate, line.steps) == ("run", 3, 1.0, 0.05, 10)
    assert (line.accounting, line.budget, line.epsilon_before, line.epsilon_after) == ("rdp", 8.0, 0.0, after)
    assert line.time.endswith("+00:00")
    assert Ledger.read(path).entries == ledger.entries


def test_a_round_that_would_pass_the_budget_is_refused_and_not_written(path: Path) -> None:
    ledger = open_ledger(path)
    spent = ledger.spend("run", 1, ROUND, budget=8.0)
    before = files_beside(path)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.spend("run", 2, ROUND, budget=spent)
    assert caught.value.spent == spent < caught.value.asked
    assert files_beside(path) == before
    assert ledger.history == (ROUND,)


def test_a_budget_may_be_spent_to_the_last_digit(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.spend("run", 1, ROUND, budget=epsilon([ROUND], 1e-5)) == epsilon([ROUND], 1e-5)


def test_another_accounting_judges_the_whole_ledger(path: Path) -> None:
    """What is refused by rdp may fit by prv: of everything, not of what is new."""
    spent = open_ledger(path).spend("run", 1, ROUND, budget=8.0)
    tighter = open_ledger(path, accounting="prv")
    assert tighter.epsilon() < spent
    assert tighter.spend("run", 2, ROUND, budget=spent) == epsilon([ROUND, ROUND], 1e-5, "prv") <= spent


@pytest.mark.parametrize("budget", [0.0, -1.0, math.nan])
def test_a_budget_that_allows_nothing_is_refused(path: Path, budget: float) -> None:
    ledger = open_ledger(path)
    with pytest.raises(LedgerError, match="allows nothing"):
        ledger.spend("run", 1, ROUND, budget=budget)
    assert len(ledger.entries) == 1


def test_without_a_budget_everything_is_counted_all_the_same(path: Path) -> None:
    ledger = open_ledger(path)
    assert ledger.spend("run", 1, Spending(0.1, 1.0, 10), budget=math.inf) > 100
    line = Ledger.read(path).entries[-1]
    assert isinstance(line, Spent)
    assert line.budget is None


def test_a_plan_costs_nothing_and_outlives_a_restart(path: Path) -> None:
    whole = Spending(1.1, 0.05, 200)
    ledger = open_ledger(path)
    assert ledger.planned("run") is None
    ledger.plan("run", whole)
    ledger.plan("run", whole)
    ledger.plan("other", ROUND)
    again = open_ledger(path)
    assert (again.planned("run"), again.planned("other"), again.epsilon()) == (whole, ROUND, 0.0)
    assert [type(entry) for entry in again.entries] == [Opened, Planned, Planned]
    again.plan("run", ROUND)
    assert again.planned("run") == ROUND
    # The same name again, with another budget.
    assert again.planned("run", budget=8.0) is None
    again.plan("run", ROUND, budget=8.0)
    assert again.planned("run", budget=8.0) == ROUND
    assert again.planned("run", budget=3.0) is None


def test_two_that_are_open_at_once_spend_on_top_of_each_other(path: Path) -> None:
    one, other = open_ledger(path), open_ledger(path)
    one.spend("run", 1, ROUND, budget=8.0)
    assert other.spend("run", 1, ROUND, budget=8.0) == epsilon([ROUND, ROUND], 1e-5)
    with pytest.raises(BudgetExceeded):
        one.spend("run", 2, ROUND, budget=epsilon([ROUND, ROUND], 1e-5))
    assert one.history == (ROUND, ROUND)


def test_a_ledger_cut_off_meanwhile_is_noticed_before_spending(path: Path) -> None:
    training = open_ledger(path)
    training.spend("run", 1, ROUND, budget=8.0)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(LedgerError, match="cut off"):
        training.spend("run", 2, ROUND, budget=8.0)


def test_reading_needs_a_ledger_and_writes_nothing(path: Path) -> None:
    with pytest.raises(LedgerError, match="no privacy ledger at"):
        Ledger.read(path)
    open_ledger(path)
    before = files_beside(path)
    Ledger.read(path)
    assert files_beside(path) == before


def test_what_was_mended_is_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_ledger(path).spend("run", 1, ROUND, budget=8.0)
    with path.open("ab") as file:
        file.write(b'{"accounting":"rd')
    assert "torn" in Ledger.read(path).mended[0]
    with caplog.at_level(logging.WARNING, logger="fedmedpeft.site"):
        ledger = open_ledger(path)
    assert "torn" in caplog.text
    assert len(ledger.mended) == 1
    assert open_ledger(path).mended == ()


@contextmanager
def _files_no_larger_than(size: int) -> Iterator[None]:
    """As a full disk: what is written beyond ``size`` bytes of a file fails."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("left", [0, 1, 300])
def test_a_full_disk_refuses_and_leaves_the_ledger_as_it_was(path: Path, left: int) -> None:
    ledger = open_ledger(path)
    ledger.spend("run", 1, ROUND, budget=8.0)
    before = files_beside(path)
    with (
        _files_no_larger_than(path.stat().st_size + left),
        pytest.raises(LedgerError, match="cannot be written.*nothing was trained") as caught,
    ):
        ledger.spend("run", 2, ROUND, budget=8.0)
    assert str(path) not in caught.value.public
    assert files_beside(path) == before
    assert ledger.spend("run", 2, ROUND, budget=8.0) == open_ledger(path).epsilon() == epsilon([ROUND, ROUND], 1e-5)


def test_where_only_the_head_file_fails_the_line_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = open_ledger(path)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedmedpeft.chained_file.write_atomically", full)
        for _ in range(2):  # the second must not leave the head file two lines behind
            with pytest.raises(LedgerError, match="No space left"):
                ledger.spend("run", 1, ROUND, budget=8.0)
    again = open_ledger(path)
    assert again.history == (ROUND,)
    assert "one line behind" in again.mended[0]
    assert ledger.spend("run", 2, ROUND, budget=8.0) == epsilon([ROUND, ROUND], 1e-5)


def test_a_directory_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="cannot be written"):
        open_ledger(tmp_path / "file" / "Basel.ledger.jsonl")
    with pytest.raises(LedgerError, match="cannot be"):
        open_ledger(Path("/proc/Basel.ledger.jsonl"))
    (tmp_path / "Chur.ledger.jsonl").mkdir()
    with pytest.raises(LedgerError, match="cannot be"):
        open_ledger(tmp_path / "Chur.ledger.jsonl")


_SPENDER = """
import sys
from pathlib import Path
from fedmedpeft.privacy.accountant import BudgetExceeded, Spending
from fedmedpeft.privacy.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]), data_hash="a1" * 32, unit="patient", units=500, delta=1e-5)
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    try:
        ledger.spend(sys.argv[2], number, Spending(1.0, 0.05, 10), budget=float(sys.argv[3]))
    except BudgetExceeded:
        print("refused", flush=True)
"""


def test_two_processes_do_not_overspend_together(path: Path) -> None:
    budget = epsilon([Spending(1.0, 0.05, 10 * 25)], 1e-5)
    spenders = [
        subprocess.Popen(
            [sys.executable, "-c", _SPENDER, str(path), name, repr(budget)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for spender in spenders:
        assert spender.stdout is not None
        assert spender.stdout.readline() == "ready\n"
    outputs = []
    for spender in spenders:
        assert spender.stdin is not None
        spender.stdin.write("\n")
        spender.stdin.flush()
    for spender in spenders:
        outputs.append(spender.communicate()[0])
        assert spender.returncode == 0
    ledger = Ledger.read(path)
    assert len(ledger.history) == 25
    assert ledger.epsilon() <= budget
    assert sum(output.count("refused") for output in outputs) == 15
