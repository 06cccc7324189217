"""What may be in, decided before a pixel is decoded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from fedmedpeft.data.dicom import opened as opened_module
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.admission import check_kind, check_size
from fedmedpeft.data.dicom.opened import opened
from fedmedpeft.data.dicom.reasons import Skipped
from tests.fedmedpeft.data.dicom.dicom_files import made, save

_YES, _NO = {"BurnedInAnnotation": "YES"}, {"BurnedInAnnotation": "NO"}


def _kind(burned_in: str = "skip", localizers: str = "skip", **tags: Any) -> str | None:
    try:
        check_kind(made(**tags), burned_in, localizers)  # type: ignore[arg-type]
    except Skipped as reason:
        return str(reason)
    return None


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_marked_as_burned_in() -> None:
    assert _kind(**_YES) == _kind("keep-unmarked", **_YES) == reasons.BURNED_IN
    assert _kind("keep", **_YES) is None
    assert _kind(BurnedInAnnotation="yes ") == reasons.BURNED_IN


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "US"},
        {"Modality": "ES"},
        {"Modality": "XA", "ImageType": ["DERIVED", "SECONDARY"]},
        {"SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage},
    ],
)
def test_kinds_that_often_have_text_must_be_marked_as_free_of_it(tags: dict[str, Any]) -> None:
    for unclear in (None, "", "MAYBE"):
        assert _kind(**tags, BurnedInAnnotation=unclear) == reasons.MAYBE_BURNED_IN
    assert _kind("keep-unmarked", **tags) is None
    assert _kind(**tags, **_NO) is None


def test_other_kinds_need_no_mark() -> None:
    assert _kind() is None
    assert _kind(Modality="XA", ImageType=["ORIGINAL", "PRIMARY"]) is None
    assert _kind(Modality="MR", ImageType=["DERIVED", "SECONDARY"]) is None


def test_localisers_doses_and_segmentations() -> None:
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    assert _kind(**scout) == reasons.LOCALIZER
    assert _kind(localizers="keep", **scout) is None
    assert _kind(Modality="RTDOSE") == _kind("keep", "keep", Modality="SEG") == reasons.NOT_A_PICTURE


@pytest.mark.parametrize(
    ("tags", "frames", "reason"),
    [
        ({"Rows": 60000, "Columns": 60000}, 1, reasons.TOO_LARGE),
        ({"Rows": 8192, "Columns": 8192}, 64, None),
        ({"Rows": 8192, "Columns": 8192}, 65, reasons.TOO_LARGE),
        ({"Rows": 1, "Columns": 1}, 65537, reasons.TOO_LARGE),
        ({"Rows": 0}, 1, reasons.BAD_SIZE),
        ({"Columns": None}, 1, reasons.BAD_SIZE),
        ({"BitsStored": 12}, 1, reasons.BAD_SIZE),
        ({"SamplesPerPixel": 4}, 1, reasons.BAD_SIZE),
        ({"PhotometricInterpretation": "RGB"}, 1, reasons.COLOURS),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "HSV"}, 1, reasons.COLOURS),
    ],
)
def test_sizes(tags: dict[str, Any], frames: int, reason: str | None) -> None:
    dataset = made(**tags)
    if reason is None:
        check_size(dataset, frames)
        return
    with pytest.raises(Skipped) as caught:
        check_size(dataset, frames)
    assert str(caught.value) == reason


def _why_not(path: Path) -> str:
    with pytest.raises(Skipped) as caught, opened(path):
        pass
    return str(caught.value)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("DICM")
    assert _why_not(tmp_path / "a.txt") == reasons.NOT_DICOM
    report = made()
    del report.PixelData
    assert _why_not(save(report, tmp_path / "b.dcm")) == reasons.NO_IMAGE
    report.SOPClassUID = MediaStorageDirectoryStorage
    assert _why_not(save(report, tmp_path / "DICOMDIR")) == reasons.DICOMDIR
    report.FloatPixelData = b"\0\0\0\0"
    report.SOPClassUID = ParametricMapStorage
    assert _why_not(save(report, tmp_path / "c.dcm")) == reasons.NOT_A_PICTURE


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_module, "_MOST_IN_MEMORY", 2**20)
    dataset = made(np.zeros((4096, 4096), dtype=np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    path = save(dataset, tmp_path / "a.dcm")
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    assert _why_not(path) == reasons.TOO_LARGE
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**22


def test_pixels_written_unlike_the_file_header_says(tmp_path: Path) -> None:
    dataset = made()
    path = tmp_path / "a.dcm"
    dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    explicit = path.read_bytes()
    at = explicit.rindex(b"\xe0\x7f\x10\x00OW\0\0")
    path.write_bytes(explicit[: at + 4] + explicit[at + 8 :])
    with opened(path) as found:
        assert found.source is found.header
        assert found.header.PixelData == dataset.PixelData
