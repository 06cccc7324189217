from __future__ import annotations

import math

from fedmedpeft.tasks import Classification
from server.records import RoundRecord
from server.tables import RoundTable, number, score_lines, summary_lines
from tests.server.scripted_sites import scores


def test_a_row_per_round_under_one_heading() -> None:
    said: list[str] = []
    table = RoundTable(said.append, Classification())
    table.add(RoundRecord(0, 3, 3, "joined", 1_000_000, 2_000_000, 1.25, {"hospital-a": scores(6, 4)}))
    table.add(RoundRecord(1, 3, 2, "aggregated", 0, 0, 0.0, {"a-site-with-a-very-long-name": scores(7, 3)}))
    heading, before, first = said[1:]
    assert before.split() == ["before", "0.700", "0.600", "hospital-a", "0.600", "3/3", "2.000", "1.000", "1.2"]
    assert first.split()[3:6] == ["a-site-with-a-very..", "0.700", "2/3"]
    assert len({len(heading), len(before), len(first)}) == 1


def test_a_round_that_changed_nothing_says_so() -> None:
    said: list[str] = []
    RoundTable(said.append, Classification()).add(
        RoundRecord(4, 2, 0, "not aggregated: 1 usable answers, 2 needed", 0, 0, 0.0)
    )
    assert said[-1].strip() == "round 4 is not aggregated: 1 usable answers, 2 needed"
    assert said[-2].split() == ["4", "-", "-", "-", "0/2", "0.000", "0.000", "0.0"]


def _result(*values: float) -> dict[str, object]:
    names = ("a", "b")
    sites = {n: {"samples": 20, "balanced_accuracy": v} for n, v in zip(names, values, strict=False)}
    return {"mean": sum(values) / 2, "worst": min(values), "union": values[0], "sites": sites}


def test_the_summary_shows_gains_and_losses_per_site() -> None:
    summary = {
        "metric": "balanced_accuracy",
        "sites": {"a": {}, "b": {}},
        "results": {
            "local-only": _result(0.7, 0.8),
            "federated": _result(0.9, 0.75),
            "personalised": _result(0.8, 0.9),
            "pooled": _result(1.0, 0.5),
        },
        "gains": {"a": 0.2, "b": -0.05},
        "personalised_gains": {"a": 0.1, "b": 0.1},
        "overall_gains": {"mean": 0.075, "worst": -0.05, "union": 0.1},
        "overall_personalised_gains": {"mean": 0.1, "worst": 0.1, "union": 0.1},
        "personalise_steps": 20,
        "local_only_elsewhere": 0.5,
        "traffic": {"up_bytes": 1e6, "down_bytes": 3e6, "full_fine_tuning_bytes": 4e8, "times_less": 100.0},
    }
    lines = summary_lines(summary)
    assert lines[2].split() == ["a", "20", "0.700", "0.900", "+0.200", "0.800", "+0.100", "1.000"]
    assert lines[3].split() == ["b", "20", "0.800", "0.750", "-0.050", "0.900", "+0.100", "0.500"]
    assert lines[1].split() == ["site", "images", "local-only", "federated", "gain", "personalised", "gain", "pooled"]
    assert lines[4].split()[-6:] == ["0.750", "0.825", "+0.075", "0.850", "+0.100", "0.750"]
    assert "0.500 on average" in lines[7]
    assert lines[8] == "personalised took 20 more steps at each site than the others."
    assert lines[9:] == [
        "Traffic: 1.000 MB up and 3.000 MB down in all, joining and evaluation included.",
        "Full fine-tuning would have moved 400.0 MB: this is 100.0 x less.",
    ]
    assert len({len(line) for line in lines[1:7]}) == 1


def test_without_references_there_is_no_gain_and_without_answers_no_table() -> None:
    traffic = {"up_bytes": 0, "down_bytes": 0, "full_fine_tuning_bytes": None, "times_less": None}
    summary = {"sites": {"a": {}}, "results": {}, "gains": {}, "personalised_gains": {}, "traffic": traffic}
    summary |= {"local_only_elsewhere": None, "metric": "balanced_accuracy"}
    assert summary_lines(summary)[0] == "No test scores: no site answered."
    summary["results"] = {"federated": _result(0.9, 0.9)}
    assert "gain" not in "".join(summary_lines(summary))


def test_a_site_that_keeps_its_scores_is_named_once() -> None:
    said: list[str] = []
    table = RoundTable(said.append, Classification())
    table.add(RoundRecord(0, 3, 3, "joined", 0, 0, 0.0, {"a": scores(6, 4)}, withheld=("b", "c")))
    table.add(RoundRecord(1, 3, 3, "aggregated", 0, 0, 0.0, {"a": scores(7, 3)}, withheld=("b",)))
    table.add(RoundRecord(2, 3, 3, "aggregated", 0, 0, 0.0, {"a": scores(7, 3)}, withheld=("b", "d")))
    kept = [line.strip() for line in said if "so that no figure" in line]
    assert kept == [
        "2 sites keep their validation scores, so that no figure over sites holds them: b, c.",
        "1 site keeps its validation scores, so that no figure over sites holds them: d.",
    ]


def test_withheld_is_not_the_same_as_failed() -> None:
    summary = {
        "metric": "balanced_accuracy",
        "sites": {"a": {}, "b": {}, "c": {}, "d": {}},
        "withheld": {"b": ["val", "test"], "c": ["val", "loss"]},
        "results": {"local-only": _result(0.7), "federated": _result(0.9)},
        "gains": {"a": 0.2},
        "overall_gains": {"mean": 0.2, "worst": 0.2, "union": 0.2},
        "personalised_gains": {},
    }
    lines = score_lines(summary)
    assert lines[3].split() == ["b", *["withheld"] * 4]
    assert lines[4].split() == ["c", "0", "-", "-", "-"]
    assert lines[-1] == "1 site keeps its test scores, so that no figure over sites holds them: b."
    assert score_lines(summary | {"results": {}}) == ["No test scores: no site answered that tells them."]


def test_numbers_that_are_none_are_dashes() -> None:
    assert [number(None), number(math.nan), number(math.inf), number(0.12345, 2)] == ["-", "-", "-", "0.12"]


def test_other_metrics_and_remarks_follow_the_table() -> None:
    def result(**union: float) -> dict[str, object]:
        return _result(0.5, 0.7) | {"union_metrics": union}

    summary = {
        "metric": "accuracy",
        "unit": "questions",
        "secondary": ["closed_accuracy", "auroc"],
        "remarks": ["Backbone: some weights are random."],
        "sites": {"a": {}, "b": {}},
        "results": {"local-only": result(closed_accuracy=0.25), "federated": result(closed_accuracy=0.5)},
        "gains": {},
        "personalised_gains": {},
    }
    for site in ("a", "b"):
        for kind in ("local-only", "federated"):
            summary["results"][kind]["sites"][site]["accuracy"] = 0.4  # type: ignore[index]
    lines = score_lines(summary)
    assert lines[0] == "Test accuracy"
    assert lines[1].split()[:2] == ["site", "questions"]
    assert lines[-3].split()[:3] == ["all", "questions", "together"]
    assert lines[-2] == "Closed accuracy of all questions together: local-only 0.250, federated 0.500."
    assert lines[-1] == "Backbone: some weights are random."
