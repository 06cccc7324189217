from __future__ import annotations

from pathlib import Path

import pytest

from clients.preflight.check import Check, Result, failed, passed, run_checks, skipped, without_paths
from clients.preflight.checklist import checklist
from clients.preflight.facts import Facts
from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError


def _run(*checks: Check) -> dict[str, Result]:
    started: list[str] = []
    findings = run_checks(checks, Facts(Path("site.yaml")), lambda check: started.append(check.name))
    assert started == [finding.check.name for finding in findings if not finding.result.text.startswith("not checked")]
    return {finding.check.name: finding.result for finding in findings}


def test_a_failing_check_stops_only_what_builds_on_it() -> None:
    found = _run(
        Check("a", "", lambda facts: failed("broken", "mend")),
        Check("b", "", lambda facts: passed("fine"), ("a",)),
        Check("c", "", lambda facts: passed("fine"), ("b",)),
        Check("d", "", lambda facts: passed("fine")),
        Check("e", "", lambda facts: passed("fine"), ("d",)),
    )
    assert [found[name].status for name in "abcde"] == ["fail", "skip", "skip", "pass", "pass"]
    assert "'a'" in found["c"].text  # the cause, not what was skipped because of it


def test_what_builds_on_a_skipped_check_is_skipped() -> None:
    found = _run(Check("a", "", lambda facts: skipped("none")), Check("b", "", lambda facts: passed("fine"), ("a",)))
    assert found["b"].status == "skip"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no such file: /data/Meier_Johann.png"),
        DataError("Image 'Meier_Johann.png' is damaged", public="An image is damaged."),
        ConfigError("path='/wards/Meier_Johann/labels.csv' is not there. Correct it."),
    ],
)
def test_an_error_fails_its_check_and_keeps_its_names_here(error: Exception) -> None:
    def look(facts: Facts) -> Result:
        raise error

    found = _run(Check("a", "", look), Check("b", "", lambda facts: passed("fine")))
    assert (found["a"].status, found["b"].status) == ("fail", "pass")
    assert "Meier" not in found["a"].text + found["a"].fix
    assert any("Meier" in line for line in found["a"].details)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Site file '/srv/x y/site.yaml' has no key 'devise'.", "Site file '[path]' has no key 'devise'."),
        ("data=manifest(path=/data/Anna Meier/l.csv, root=/b)", "data=manifest(path=[path], root=[path])"),
        ("There is nothing at /data/Anna Meier", "There is nothing at [path]"),
        ("cannot read ../x/Meier.csv: no such file", "cannot read [path]: no such file"),
        (r"not at C:\data\Meier.csv; mend it", "not at C:[path]; mend it"),
        ("rounds=0 must be at least 1. Set 'rounds'.", "rounds=0 must be at least 1. Set 'rounds'."),
    ],
)
def test_paths_are_left_out(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_every_check_builds_on_earlier_ones_only() -> None:
    seen: set[str] = set()
    for check in checklist():
        assert set(check.needs) <= seen
        assert check.name not in seen
        seen.add(check.name)
