"""Labels from a table, a text or a tag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.labels import LabelTable, OneLabel, TagLabels
from fedmedpeft.data.dicom.reasons import Skipped
from fedmedpeft.data.errors import DataError
from tests.fedmedpeft.data.dicom.dicom_files import made


def _table(tmp_path: Path, text: str, **options: str) -> LabelTable:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return LabelTable(path, **options)


@pytest.mark.parametrize(
    ("header", "cell", "tags"),
    [
        ("SOPInstanceUID", "1.5", {"SOPInstanceUID": "1.5"}),
        ("study_instance_uid", "1.2.9", {"StudyInstanceUID": "1.2.9"}),
        ("Accession Number", "A7", {"AccessionNumber": "A7 "}),
        ("patient", "p-1", {"PatientID": "P1"}),
        ("file", "a\\b/../x.dcm", {}),
    ],
)
def test_what_a_row_may_be_about(tmp_path: Path, header: str, cell: str, tags: dict[str, Any]) -> None:
    labels = _table(tmp_path, f"{header},label,reader\n{cell},sick,Dr X\nother,well,Dr Y\n")
    assert labels.of(made(**tags), "a/x.dcm") == "sick"
    assert labels.unused() == 1
    with pytest.raises(Skipped, match=reasons.NO_LABEL):
        labels.of(made(PatientID="9", StudyInstanceUID="9", AccessionNumber="9"), "y.dcm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patiente,label\n1,a\n", r"no column any of .* Did you mean 'patient'\? It has: patiente"),
        ("patient,labl\n1,a\n", r"no column 'label'\. Did you mean 'labl'\?"),
        ("patient,file,label\n1,a,b\n", "several columns.*--label-by patient"),
        ("patient,label\n4711,\n", "empty label in row 2"),
        ("patient,label\n--,a\n", "empty patient in row 2"),
        ("patient,label\n47-11,a\n4711,b\n", "Another label for the same patient as further up in row 3"),
        ("patient,label\n", "no rows"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _table(tmp_path, text)
    assert "4711" not in str(caught.value)


def test_columns_may_be_chosen(tmp_path: Path) -> None:
    text = "patient,file,finding,label\nP1,x.dcm,sick,1\n"
    assert _table(tmp_path, text, by="file", column="finding").of(made(), "x.dcm") == "sick"
    assert _table(tmp_path, text, by="patient").of(made(), "y.dcm") == "1"
    with pytest.raises(ConfigError, match=r"--label-by 'acession'.*Did you mean 'accession'"):
        _table(tmp_path, text, by="acession")
    with pytest.raises(DataError, match="no column 'accession'"):
        _table(tmp_path, text, by="accession")


@pytest.mark.filterwarnings("ignore:The value length")
def test_one_label_and_coded_tags() -> None:
    assert OneLabel(" x ").of(made(), "") == "x"
    with pytest.raises(ConfigError, match="--label is empty"):
        OneLabel(" ")
    assert TagLabels("Modality").of(made(), "") == "CT"
    with pytest.raises(ConfigError, match=r"'PatientName' cannot be a label.* Modality"):
        TagLabels("PatientName")
    for value in ("", "Knee of Anna Meier, left", None):
        with pytest.raises(Skipped):
            TagLabels("BodyPartExamined").of(made(BodyPartExamined=value), "")
