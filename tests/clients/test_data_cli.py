"""``fedmedpeft data import-dicom`` as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients.data_cli import app
from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from tests.fedmedpeft.data.dicom.dicom_files import made, save


def _call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", "import-dicom", *map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.output


def test_a_table_of_labels_becomes_a_manifest(tmp_path: Path) -> None:
    save(made(AccessionNumber="A1", PatientName="Meier"), tmp_path / "in" / "Meier.dcm")
    save(made(AccessionNumber="A2"), tmp_path / "in" / "b.dcm")
    (tmp_path / "labels.csv").write_text("accession,finding\nA1,sick\nA3,well\n")
    arguments = (tmp_path / "in", "--out", tmp_path / "out", "--labels", tmp_path / "labels.csv")
    printed = _call(*arguments, "--label-column", "finding")
    assert "2 files: 1 imported, 0 here already, 1 left out." in printed
    assert "1 pictures of 1 patients" in printed
    assert "1 rows of the table of labels" in printed
    assert f"manifest(path='{tmp_path}/out/manifest.csv')" in printed
    assert "Meier" not in printed
    again = json.loads(_call(*arguments, "--label-column", "finding", "--json"))
    assert again["files"] == {"seen": 2, "imported": 0, "kept": 1, "skipped": 1}
    assert again["labels"] == {"sick": 1}


def test_exactly_one_kind_of_label(tmp_path: Path) -> None:
    save(made(), tmp_path / "in" / "a.dcm")
    place = (tmp_path / "in", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="No label given: expected one of --labels FILE"):
        _call(*place)
    with pytest.raises(ConfigError, match="--label and --label-tag given"):
        _call(*place, "--label", "a", "--label-tag", "Modality")
    assert not (tmp_path / "out").exists()
    assert "CT" in _call(*place, "--label-tag", "Modality")


def test_options_that_are_wrong_are_found_before_anything_is_written(tmp_path: Path) -> None:
    save(made(), tmp_path / "in" / "a.dcm")
    place = (tmp_path / "in", "--out", tmp_path / "out", "--label", "x")
    for option, value in (("--window", "lung"), ("--frames", "none")):
        with pytest.raises(ConfigError, match=option):
            _call(*place, option, value)
    assert not (tmp_path / "out").exists()


def test_nothing_imported_is_an_error_after_the_report(tmp_path: Path) -> None:
    save(made(Modality="US"), tmp_path / "in" / "a.dcm")
    with pytest.raises(DataError, match="None of the 1 files"):
        _call(tmp_path / "in", "--out", tmp_path / "out", "--label", "x")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["files"]["skipped"] == 1
    assert "1 imported" in _call(
        tmp_path / "in", "--out", tmp_path / "out", "--label", "x", "--burned-in", "keep-unmarked"
    )
