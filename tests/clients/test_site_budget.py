from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    ContractError,
    JoinRequest,
    Refusal,
    SiteError,
)
from fedmedpeft.privacy.ledger import Ledger
from tests.clients.private_visits import federation_of, ledger_of, visit


def test_the_whole_run_keeps_to_the_budget(config: RunConfig) -> None:
    """As planned at the first visit: with the last round the budget is spent, and not passed."""
    worker = federation_of(config, privacy="required(epsilon=2)", inbound_factor=0.0).worker(0)
    spent = [visit(worker, round_).epsilon for round_ in (1, 2)]
    last = visit(worker, 3, last=True)
    assert spent[0] is not None
    assert spent[1] is not None
    assert spent[0] < spent[1] == last.epsilon
    assert 1.9 < spent[1] <= 2


def test_a_round_beyond_the_budget_is_refused_before_it_trains(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=2, noise_multiplier=0.9)", inbound_factor=0.0).worker(0)
    visit(worker, 1)
    before, kept = ledger_of(config).read_bytes(), worker.store.load("run")
    with pytest.raises(SiteError) as refused:
        visit(worker, 2)
    assert refused.value.code == Refusal.BUDGET
    assert not any(character.isdigit() for character in refused.value.reason)
    assert ledger_of(config).read_bytes() == before
    assert worker.store.load("run").keys() == kept.keys()
    # It still tests what the others learn.
    assert visit(worker, 3, last=True).before["test"].samples


def test_training_that_was_cut_short_stays_paid(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = federation_of(config, privacy="required(epsilon=8)").worker(0)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clients.site_training.PrivateTrainer.train", cut)
        with pytest.raises(KeyboardInterrupt):
            visit(worker)
    paid = Ledger.read(ledger_of(config)).epsilon()
    assert paid > 0
    again = visit(worker).epsilon
    assert again is not None
    assert again > paid


def test_a_durable_ledger_outlives_its_runs(config: RunConfig, tmp_path: Path) -> None:
    privacy = f"required(epsilon=8, noise_multiplier=2, ledger='{tmp_path / 'ledgers'}')"
    spent = []
    for name in ("one", "other"):
        runs_dir = str(Path(config.runs_dir) / name)
        spent.append(visit(federation_of(config, privacy=privacy, runs_dir=runs_dir).worker(0)).epsilon)
    assert spent[0] is not None
    assert spent[1] is not None
    assert spent[1] > spent[0]


def test_a_data_set_that_changed_under_its_ledger(config: RunConfig, tmp_path: Path) -> None:
    """Known at joining: a run that cannot be paid for does not begin."""
    privacy = f"required(epsilon=8, ledger='{tmp_path / 'ledgers'}')"
    visit(federation_of(config, privacy=privacy).worker(0))
    other = federation_of(config, privacy=privacy, partition_seed=1, runs_dir=str(tmp_path / "other")).worker(0)
    with pytest.raises(SiteError) as refused:
        other.join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert "data" in refused.value.reason
    assert str(tmp_path) not in refused.value.reason


@pytest.mark.parametrize("run", ["../elsewhere", "", ".."])
def test_a_run_whose_name_is_a_path_cannot_be_joined(config: RunConfig, run: str) -> None:
    with pytest.raises(ContractError, match="plain name"):
        federation_of(config, privacy="required(epsilon=8)").worker(0).join(JoinRequest(run, send_state=False))


def test_an_edited_ledger_is_refused(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=8)", inbound_factor=0.0).worker(0)
    visit(worker)
    path = ledger_of(config)
    path.write_text(path.read_text().replace('"steps":2', '"steps":1'))
    with pytest.raises(SiteError) as refused:
        visit(worker, 2)
    assert refused.value.code == Refusal.PRIVACY
    assert str(path) not in refused.value.reason


def test_a_delta_that_is_not_below_one_over_n(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=8, delta=0.5)").worker(0)
    with pytest.raises(SiteError) as refused:
        worker.join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert "delta" in refused.value.reason


def test_a_run_with_a_name_that_its_ledger_knows_is_planned_anew(config: RunConfig, tmp_path: Path) -> None:
    """With the noise of the first one the budget would be gone before its end, or not be used."""
    spent, noises = [], []
    for number, (epsilon, rounds) in enumerate([(1, 2), (8, 2), (8, 3)]):
        privacy = f"required(epsilon={epsilon}, ledger='{tmp_path / 'ledgers'}')"
        runs_dir = str(Path(config.runs_dir) / str(number))
        spent.append(visit(federation_of(config, privacy=privacy, rounds=rounds, runs_dir=runs_dir).worker(0)).epsilon)
        ledger = Ledger.read(tmp_path / "ledgers" / "scanner-00.ledger.jsonl")
        noises.append(ledger.history[-1].noise_multiplier)
    assert noises[0] > noises[2] > noises[1]
