from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from simulations.study.cell import Cell
from simulations.study.method_summary import PartitionSummary, summarise
from simulations.study.plan import Plan, make_plan
from simulations.study.plot import _places, draw
from simulations.study.report import write_report
from simulations.study.results import read_runs
from simulations.study.runner import StudyRunner, choices
from tests.simulations.study.fakes import FakeExecutor, Silent, study

_TEST = {"head": 0.70, "layernorm": 0.80, "full": 0.75, "local-only": 0.72, "pooled": 0.85}


def _scores(cell: Cell) -> tuple[float, float]:
    return 0.6 - abs(cell.scale - 1) / 10, _TEST[cell.group] + cell.seed / 100


@pytest.fixture(scope="module")
def plan(tiny_backbone: Path) -> Plan:
    return make_plan(study(tiny_backbone, methods=["full", "head", "layernorm"], references="head"))


@pytest.fixture(scope="module")
def done(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of that study, all of it run."""
    out = tmp_path_factory.mktemp("study")
    _report(plan, out, FakeExecutor(out, _scores))
    return out


def _report(plan: Plan, out: Path, execute: FakeExecutor) -> list[dict[str, str]]:
    StudyRunner(plan, out, execute, Silent()).run()
    write_report(plan, out)
    return _rows(out / "results.csv")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _summary(plan: Plan, out: Path) -> PartitionSummary:
    (summary,) = summarise(plan, read_runs(plan, out, choices(plan, out)))
    return summary


def test_results_have_one_row_per_run(plan: Plan, done: Path) -> None:
    rows = _rows(done / "results.csv")
    assert len(rows) == sum(plan.runs.values()) == 13
    assert [(row["scale"], row["chosen"]) for row in rows if row["method"] == "layernorm"] == [
        ("0.5", "false"),
        ("1", "true"),
        ("1", "true"),
    ]
    row = next(row for row in rows if (row["method"], row["seed"]) == ("layernorm", "1"))
    expected: dict[str, Any] = {
        "kind": "federated",
        "status": "completed",
        "method_parameters": "160",
        "head_parameters": "68",
        "payload_bytes": str(4 * 228),
        "bytes_up_per_site_round": "9000",
        "bytes_down_per_site_round": "9010",
        "total_bytes": "42",
        "val_balanced_accuracy": "0.6",
        "worst_val_balanced_accuracy": "0.3",
        "test_balanced_accuracy": "0.81",
        "worst_test_balanced_accuracy": "0.71",
        "worst_site": "b",
        "test_auroc": "0.81",
        "personalised_test_balanced_accuracy": "0.86",
        "seconds": "2",
        "seconds_per_round": "2.5",
    }
    assert {key: row[key] for key in expected} == expected
    assert (done / row["run"] / "summary.json").is_file()
    pooled = next(row for row in rows if row["kind"] == "pooled")
    assert (pooled["method_parameters"], pooled["test_balanced_accuracy"]) == ("", "0.85")


def test_sites_have_one_row_per_run_model_and_site(plan: Plan, done: Path) -> None:
    rows = _rows(done / "sites.csv")
    assert len(rows) == 9 * 2 * 2 + 4 * 2
    assert {row["model"] for row in rows} == {"federated", "personalised", "local-only", "pooled"}
    row = next(row for row in rows if (row["model"], row["site"], row["seed"]) == ("local-only", "a", "1"))
    assert float(row["balanced_accuracy"]) == pytest.approx(0.83)


def test_the_summary_of_the_methods(plan: Plan, done: Path) -> None:
    summary = _summary(plan, done)
    assert [method.method for method in summary.methods] == ["head", "layernorm", "full"]
    assert [method.method for method in summary.front] == ["head", "layernorm"]
    ((below, gap),) = summary.below_local_only()
    assert (below.method, gap) == ("head", pytest.approx(0.02))
    layernorm = summary.methods[1]
    assert (layernorm.mean.n, layernorm.mean.mean, layernorm.scale) == (2, pytest.approx(0.805), 1.0)
    # t(0.975; 1) = 12.706; the two values are 0.01 apart.
    assert layernorm.mean.half == pytest.approx(12.706 * 0.005, rel=1e-3)
    with_full, without = summary.slope(with_full=True), summary.slope(with_full=False)
    assert (with_full.n, without.n) == (3, 2)
    assert without.value == pytest.approx(10 / (math.log10(228) - math.log10(68)))


def test_privacy_is_a_column_where_there_is_some(plan: Plan, done: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    assert "epsilon" not in (done / "table.md").read_text()
    some = {"layernorm": {"privacy": "auto(epsilon=4)", "out-of-domain": "scanner-00"}}
    private = make_plan(study(tiny_backbone, references="layernorm", overrides=some))
    rows = _report(private, tmp_path, FakeExecutor(tmp_path, _scores))
    told = {(row["kind"], row["method"], row["seed"], row["epsilon"], row["epsilon_per"]) for row in rows}
    assert {("federated", "layernorm", "1", "3", "patient"), ("federated", "head", "1", "", "")} <= told
    assert {row["epsilon"] for row in rows if row["kind"] != "federated"} == {""}
    lines = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| 0.855 ± 0.064 | 3 per patient (1 of 2 sites) | 2.5 | 1 |" in lines[3]
    assert "| 0.755 ± 0.064 | - | 2.5 | 1 |" in lines[2]


def test_references_are_trained_without_privacy(tiny_backbone: Path) -> None:
    """A run that is a reference refuses privacy: nothing of it leaves a site."""
    kept = {"privacy": "required(epsilon=4)", "client-privacy": "fixed", "weighting": "uniform", "inbound-factor": 0.0}
    fake = study(tiny_backbone, references="head")
    private = make_plan(fake.model_copy(update={"run": fake.run | kept}))
    references = [cell for cell in private.rest({}) if cell.kind != "federated"]
    assert {(cell.config.privacy, cell.config.client_privacy) for cell in references} == {("off", "off")}
    assert {cell.config.privacy for cell in private.first()} == {"required(epsilon=4)"}


def test_the_table(plan: Plan, done: Path) -> None:
    text = (done / "table.md").read_text()
    assert "SYNTHETIC" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "`head`",
        "`layernorm`",
        "`full`",
        "*local-only*",
        "*pooled*",
    ]
    assert len({row.count("|") for row in rows}) == 1
    assert "| 160 + 68 | 9,000 | 0.805 ± 0.064 | 0.705 ± 0.064 | 0.855 ± 0.064 | 2.5 | 1 |" in rows[3]
    assert "times each of 0.5, 1 (seed 0)" in text
    assert "2 rounds of 2 local steps" in text
    assert "On the Pareto front of bytes and mean balanced accuracy: `head`, `layernorm`." in text
    assert "Below training alone (local-only): `head` (by 0.020)." in text
    assert "over all methods (n = 3)" in text
    assert "without full fine-tuning (n = 2)" in text
    assert "Failed runs" not in text
    assert "Unfinished" not in text
    assert "never exchanged" not in text
    assert "`personalised`: after" in text


def test_failures_are_shown_and_everything_else_is_written(plan: Plan, tmp_path: Path) -> None:
    rows = _report(plan, tmp_path, FakeExecutor(tmp_path, _scores, broken=lambda cell: cell.method == "full"))
    full = [row for row in rows if row["method"] == "full"]
    assert [(row["status"], row["reason"]) for row in full] == [("failed", "RuntimeError: the site is on fire")] * 2
    text = (tmp_path / "table.md").read_text()
    assert next(line for line in text.splitlines() if line.startswith("| `full`")).count("failed") == 1
    assert "## Failed runs" in text
    assert _summary(plan, tmp_path).methods[-1].method == "full"
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_study_that_has_only_begun_has_a_report(plan: Plan, tmp_path: Path) -> None:
    write_report(plan, tmp_path)
    assert {row["status"] for row in _rows(tmp_path / "results.csv")} == {"not run"}
    text = (tmp_path / "table.md").read_text()
    assert "not run" in text
    assert "**Unfinished: 0 of 13 runs were made." in text
    assert "over all methods (n = 0)" in text
    assert "without full fine-tuning" not in text
    assert "over 0 seeds" in draw("", _summary(plan, tmp_path), plan.task)["svg"].decode()
    assert "3 of 3 methods have no result" in draw("", _summary(plan, tmp_path), plan.task)["svg"].decode()


def test_what_stays_at_the_sites_is_said(tiny_backbone: Path, tmp_path: Path) -> None:
    """Two methods that send the same are not alike where one of them trains more than it sends."""
    run = study(tiny_backbone).run | {"personalise-steps": 0}
    methods = ["lora(rank=2)", "lora(rank=2)+layernorm"]
    plan = make_plan(study(tiny_backbone, seeds=[0], methods=methods, run=run))
    _report(plan, tmp_path, FakeExecutor(tmp_path))
    text = (tmp_path / "table.md").read_text()
    assert "never exchanged: layernorm of `lora(rank=2)+layernorm`." in text
    assert "`personalised`: after" not in text
    summary = _summary(plan, tmp_path)
    assert "over 1 seed." in draw("", summary, plan.task)["svg"].decode()


def test_marks_of_equal_bytes_do_not_cover_each_other(plan: Plan, done: Path) -> None:
    head, layernorm, full = _summary(plan, done).methods
    same = [replace(layernorm, method=f"m{n}", bytes_up=9000.0 + n) for n in range(3)]
    axes = Figure(figsize=(9, 6)).add_subplot()
    axes.set(xscale="log", xlim=(500, 30_000))
    places = _places(axes, [head, *same, replace(full, bytes_up=9300.0)])
    assert list(places) == ["head", "m0", "m1", "m2", "full"]
    assert places["head"] == pytest.approx(1000)
    pixels = [axes.transData.transform((place, 0))[0] for place in places.values()]
    assert all(right - left > 6 for left, right in pairwise(pixels))
    assert all(abs(math.log(places[name] / 9000)) < 0.15 for name in ("m0", "m1", "m2", "full"))


def test_every_partition_has_its_plot(tiny_backbone: Path, tmp_path: Path) -> None:
    plan = make_plan(study(tiny_backbone, seeds=[0], partitions=["iid", "dirichlet(alpha=2.0)"]))
    _report(plan, tmp_path, FakeExecutor(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("plot*")) == [
        f"plot-{name}.{kind}" for name in ("dirichlet-alpha-2.0", "iid") for kind in ("png", "svg")
    ]
    assert (tmp_path / "table.md").read_text().count("## Partition") == 2


def test_the_plot_names_methods_and_is_the_same_every_time(plan: Plan, done: Path) -> None:
    summary = _summary(plan, done)
    first, second = draw("a title", summary, plan.task), draw("a title", summary, plan.task)
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    ElementTree.fromstring(first["svg"])
    # matplotlib writes each text as a comment beside its outlines.
    for text in ("head", "layernorm", "full", "local-only", "pooled", "worst site", "a title"):
        assert f"<!-- {text} -->" in first["svg"].decode()
    assert "Bars: lowest and highest seed" in first["svg"].decode()
