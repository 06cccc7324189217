"""DICOM files for tests, written with pydicom: a grey image of 2 x 3 unless told otherwise."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from fedmedpeft.data.dicom.frames import Picture, chosen_frames, frame_count, pictures
from fedmedpeft.data.dicom.import_folder import import_folder
from fedmedpeft.data.dicom.importing import ImportSettings
from fedmedpeft.data.dicom.labels import OneLabel
from fedmedpeft.data.dicom.opened import opened
from fedmedpeft.data.dicom.report import ImportReport
from fedmedpeft.data.dicom.window import Window

RAMP = np.array([[0, 50, 100], [150, 200, 255]], dtype=np.uint8)


def made(pixels: np.ndarray = RAMP, *, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """A data set of ``pixels``: [rows, columns] or [rows, columns, 3], [frames, ...] with ``NumberOfFrames``."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = CTImageStorage
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    shape = pixels.shape[1:] if "NumberOfFrames" in tags else pixels.shape
    bits = pixels.dtype.itemsize * 8
    defaults: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3",
        "PatientID": "P1",
        "Modality": "CT",
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": shape[2] if len(shape) == 3 else 1,
        "PhotometricInterpretation": "RGB" if len(shape) == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": int(tags.get("BitsStored", bits)) - 1,
        "PixelRepresentation": int(np.issubdtype(pixels.dtype, np.signedinteger)),
    }
    if len(shape) == 3:
        defaults["PlanarConfiguration"] = 0
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def shown(path: Path, window: str = "first", frames: str = "all") -> list[Picture]:
    with opened(path) as found:
        chosen = chosen_frames(frames, frame_count(found.header))
        return list(pictures(found, chosen, Window.parse(window)))


def seen(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(picture.png)))


def one(tmp_path: Path, dataset: Dataset, window: str = "first") -> list[Any]:
    """The one picture of ``dataset`` as nested lists."""
    (picture,) = shown(save(dataset, tmp_path / "one.dcm"), window)
    return list(seen(picture).tolist())


def imported(tmp_path: Path, settings: ImportSettings | None = None, **options: Any) -> ImportReport:
    """Import ``tmp_path/in`` into ``tmp_path/out``, all with the label ``x``."""
    options.setdefault("labels", OneLabel("x"))
    return import_folder(
        tmp_path / "in", tmp_path / "out", options.pop("labels"), settings or ImportSettings(), **options
    )


def manifest(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
