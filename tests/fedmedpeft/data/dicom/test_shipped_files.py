"""The DICOM files that ship with pydicom: all kinds of vendors, compressions and damage."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pydicom
import pytest

from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.import_folder import import_folder
from fedmedpeft.data.dicom.importing import ImportSettings
from fedmedpeft.data.dicom.labels import OneLabel

_SHIPPED = Path(pydicom.__file__).parent / "data"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """Why each file was skipped, by name, and how many were imported."""
    place = tmp_path_factory.mktemp("shipped")
    for folder in ("test_files", "charset_files"):
        shutil.copytree(_SHIPPED / folder, place / "in" / folder)
    settings = ImportSettings(burned_in="keep", localizers="keep")
    report = import_folder(place / "in", place / "out", OneLabel("x"), settings, details=True)
    with (place / "out" / "skipped.csv").open(encoding="utf-8", newline="") as file:
        skipped = {row["file"].removeprefix("test_files/"): row["reason"] for row in csv.DictReader(file)}
    assert report.seen == report.imported + len(skipped)
    return skipped, report.imported


def test_none_is_left_without_a_reason(outcome: tuple[dict[str, str], int]) -> None:
    skipped, imported = outcome
    assert imported >= 60
    images = [name for name in skipped if name.startswith(("CT_", "MR_", "examples_", "color", "693", "SC_ybr"))]
    # All encodings of MR_small are one picture: whichever comes first, the others are the same again.
    assert {skipped[name] for name in images if "trunc" not in name and "jpeg_ls" not in name} == {reasons.DUPLICATE}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", reasons.NO_IMAGE),
        ("rtplan.dcm", reasons.NO_IMAGE),
        ("waveform_ecg.dcm", reasons.NO_IMAGE),
        ("rtdose.dcm", reasons.NOT_A_PICTURE),
        ("liver_1frame.dcm", reasons.NOT_A_PICTURE),
        ("dicomdirtests/DICOMDIR", reasons.DICOMDIR),
        ("no_meta.dcm", reasons.NOT_DICOM),
        ("README.txt", reasons.NOT_DICOM),
        ("meta_missing_tsyntax.dcm", reasons.NO_SYNTAX),
        ("nested_priv_SQ.dcm", reasons.NO_UID),
        ("MR_truncated.dcm", reasons.UNDECODABLE),
    ],
)
def test_reasons(outcome: tuple[dict[str, str], int], name: str, reason: str) -> None:
    assert outcome[0][name] == reason
