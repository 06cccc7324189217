from __future__ import annotations

import math

from simulations.study.run_privacy import RunPrivacy

_TOLD = {"unit": "record", "epsilon": 2.0, "delta": 1e-4}


def _run(privacy: object, **more: object) -> RunPrivacy:
    return RunPrivacy.of({"privacy": privacy, "sites": {"a": {}, "b": {}}} | more)


def test_of_a_run() -> None:
    both = _run({"a": _TOLD, "b": _TOLD | {"epsilon": 7.99, "unit": "patient"}})
    assert (both.epsilon, both.per, both.private, both.sites) == (7.99, ("patient", "record"), 2, 2)
    assert str(both) == "7.99 per patient or record"
    assert str(_run({"a": _TOLD})) == "2 per record (1 of 2 sites)"


def test_an_epsilon_that_nobody_told_is_not_none() -> None:
    untold = _run({"a": _TOLD | {"epsilon": None}})
    assert str(untold) == "? per record (1 of 2 sites)"
    assert math.isnan(untold.columns()["epsilon"])
    assert untold.columns()["epsilon_per"] == "record"


def test_whole_sites() -> None:
    assert str(_run({}, client_privacy={"epsilon": 11893.4})) == "11,893 per site"
    assert str(_run({"a": _TOLD, "b": _TOLD}, client_privacy={"epsilon": 4.0})) == "2 per record, 4 per site"


def test_a_run_of_a_version_before_privacy() -> None:
    assert str(RunPrivacy.of({})) == ""


def test_the_worst_of_several() -> None:
    runs = [_run({"a": _TOLD, "b": _TOLD}), _run({"a": _TOLD | {"epsilon": 3.0}})]
    assert str(RunPrivacy.over(runs)) == "3 per record (1 of 2 sites)"
    assert str(RunPrivacy.over([])) == ""
