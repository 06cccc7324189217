from __future__ import annotations

import math
from pathlib import Path

import pytest

from simulations.poc.figures import RoundFigures, read_figures, table_rows, usual_overhead

_ROUNDS = """round,outcome,seconds
0,joined,9.5
1,aggregated,61.5
2,aggregated,14
3,aggregated,12.25
"""
_SITES = """round,site,outcome,seconds
0,Bern,joined,
1,Bern,accepted,4
1,Ulm,Flower error 5: Node Unavailable — no heartbeat,
1,Graz,accepted,5.5
2,Bern,accepted,30
2,Ulm,accepted,6
2,Graz,accepted,31
3,Bern,accepted,4.25
3,Ulm,accepted,3
3,Graz,accepted,4
4,Bern,evaluated,2
"""
_ANSWERED = {
    "Bern": {1: ["left"], 2: ["left", "repeated"], 3: ["left"]},
    "Graz": {1: ["left"], 2: ["left", "repeated"]},
    "Ulm": {2: ["left"]},
}


@pytest.fixture
def figures(tmp_path: Path) -> list[RoundFigures]:
    (tmp_path / "rounds.csv").write_text(_ROUNDS)
    (tmp_path / "sites.csv").write_text(_SITES)
    return read_figures(tmp_path, _ANSWERED)


def test_overhead_is_the_total_minus_the_slowest_site(figures: list[RoundFigures]) -> None:
    assert [of.round for of in figures] == [1, 2, 3]
    assert [(of.slowest, of.overhead) for of in figures] == [("Graz", 56.0), ("Ulm", 8.0), ("Bern", 8.0)]


def test_an_earlier_trys_seconds_are_not_this_rounds(figures: list[RoundFigures]) -> None:
    assert figures[1].repeated == ("Bern", "Graz")
    assert dict(figures[1].own) == {"Ulm": 6.0}
    assert figures[1].took_part == ("Bern", "Ulm", "Graz")


def test_a_site_that_was_missing_is_named_with_the_reason(figures: list[RoundFigures]) -> None:
    assert dict(figures[0].missing) == {"Ulm": "Flower error 5: Node Unavailable — no heartbeat"}
    rows = table_rows(figures, {1: ["Ulm killed"]})
    assert rows[0] == [
        "1",
        "61.5",
        "Graz",
        "5.5",
        "56.0",
        "2 of 3",
        "Ulm killed; without Ulm: Flower error 5: Node Unavailable",
    ]
    assert rows[1][-1] == "the same answer again, without training: Bern, Graz"
    assert rows[2] == ["3", "12.2", "Bern", "4.2", "8.0", "3 of 3", "-"]


def test_the_usual_overhead_is_that_of_quiet_rounds(figures: list[RoundFigures]) -> None:
    assert usual_overhead(figures) == 8.0
    assert math.isnan(usual_overhead(figures[:2]))


def test_a_round_that_only_repeats_has_no_slowest_site() -> None:
    of = RoundFigures(2, 7.0, {}, ("Bern",), {}, ("Bern",))
    assert (of.slowest, of.overhead, of.disturbed) == ("", 7.0, True)
    assert table_rows([of], {})[0][2:5] == ["-", "-", "7.0"]
