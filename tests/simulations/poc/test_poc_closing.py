from __future__ import annotations

import pytest

from clients.audit_log.audit_log import AuditLog
from simulations.poc.closing import tell_result, tell_rounds, tell_sites
from simulations.poc.errors import PocError
from simulations.poc.plan import Plan
from simulations.poc.play import Play
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller


def test_a_site_that_is_down_at_the_end_is_a_failure(stage: Stage, teller: Teller) -> None:
    for name in stage.sites:
        AuditLog.open(stage.site(name).audit_log, site=name)
    with pytest.raises(PocError, match="scanner-00 is not well at the end"):
        tell_sites(stage, teller)


def test_the_table_is_told_line_by_line(plan: Plan, stage: Stage, teller: Teller, told: list[str]) -> None:
    stage.run_directory.mkdir(parents=True)
    (stage.run_directory / "rounds.csv").write_text("round,outcome,seconds\n1,aggregated,9\n")
    rows = ["round,site,outcome,seconds", *(f"1,{name},accepted,{own}" for own, name in enumerate(plan.sites, 1))]
    (stage.run_directory / "sites.csv").write_text("\n".join(rows))
    play = Play(plan, stage, None, teller, {1: ["a note"]})  # type: ignore[arg-type]
    tell_rounds(plan, play, stage, teller)
    cells = next([cell.strip() for cell in line.split("│")[1:-1]] for line in told if "a note" in line)
    assert cells == ["1", "9.0", "scanner-02", "3.0", "6.0", "3 of 3", "a note"]
    assert any("SYNTHETIC" in line for line in told)
    assert told[-1].endswith("Round overhead where nothing happened: 6.0 s.")


@pytest.mark.parametrize(("kept", "words"), [(True, "bytes in /"), (False, "--keep or --work DIR keeps it")])
def test_where_the_adapter_lies(stage: Stage, teller: Teller, told: list[str], kept: bool, words: str) -> None:
    with pytest.raises(PocError, match="there is no"):
        tell_result(stage, teller, kept=kept)
    (stage.run_directory / "adapter").mkdir(parents=True)
    (stage.run_directory / "adapter" / "weights").write_bytes(b"x" * 1500)
    tell_result(stage, teller, kept=kept)
    assert "The adapter has 1,500 bytes" in told[0]
    assert words in told[0]
