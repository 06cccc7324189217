from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedpeft.cli import app


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["knowledge", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_show() -> None:
    code, out, _ = call("show", "radiology", "Any ascites near the liver?", "--separator", "[SEP]")
    assert code == 0
    assert "ascites is fluid in the abdominal cavity[SEP] liver is" in out
    assert "Apache-2.0" in out
    assert call("show", "radiology", "Why?")[1] == "No concept found.\n"


def test_show_as_json() -> None:
    code, out, _ = call("show", "radiology", "ascites", "--json")
    assert code == 0
    assert json.loads(out)["mentions"][0]["concept"]["name"] == "ascites"


@pytest.mark.parametrize("as_json", [False, True])
def test_coverage_over_several_files(tmp_path: Path, as_json: bool) -> None:
    (tmp_path / "a.txt").write_text("Any ascites?\nA gizmo?\n")
    (tmp_path / "b.csv").write_text("question\nWhere is the gizmo?\n")
    code, out, _ = call(
        "coverage", "radiology", tmp_path / "a.txt", tmp_path / "b.csv", *(["--json"] if as_json else [])
    )
    assert code == 0
    if as_json:
        measured = json.loads(out)
        assert (measured["texts"], measured["linked"], measured["unmatched"]) == (3, 1, [["gizmo", 2]])
    else:
        assert "Of 3 texts 1 (33.3%) have one" in out


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    code, _, error = call("coverage", "radiology", tmp_path / "none.json")
    assert (code, error.count("\n")) == (2, 1)
    assert "does not exist" in error


@pytest.mark.parametrize("command", ["show", "coverage"])
def test_help_has_an_example(command: str) -> None:
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"fedmedpeft knowledge {command}" in out.partition("Example")[2]
