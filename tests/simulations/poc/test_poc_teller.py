from __future__ import annotations

import re

from simulations.poc.teller import Teller


def test_a_line_has_one_clock_and_its_speaker(teller: Teller, told: list[str]) -> None:
    with teller:
        teller.say("2026-11-22 15:43:53 worker: up", "Ulm")
        teller.say("done")
    assert [re.sub(r"^ *\d+\.\d s  ", "", line) for line in told] == [
        "Ulm               worker: up",
        "poc               done",
    ]
    assert teller.path.read_text().splitlines() == told


def test_a_long_name_is_cut_so_that_lines_stay_below_each_other(teller: Teller, told: list[str]) -> None:
    teller.say("x", "a-very-long-laboratory-name")
    teller.say("x", "short")
    assert "a-very-long-lab~  x" in told[0]
    assert told[0].index("  x") == told[1].rindex("  x")


def test_what_a_process_says_cannot_move_the_cursor(teller: Teller, told: list[str]) -> None:
    teller.say("\x1b[2J\x1b[31mred\x1b[0m\x07 and\rback")
    assert told[0].endswith("red andback")


def test_what_comes_after_the_end_is_still_shown(teller: Teller, told: list[str]) -> None:
    with teller:
        pass
    teller.say("late")
    assert told[0].endswith("late")
