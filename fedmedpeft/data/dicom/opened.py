"""One DICOM file, opened: the few tags that an import needs, and its pixels where they lie."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.reasons import Skipped

# Tags that decide how the pixels look: an image is another one where one of these differs.
_LOOK = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns PixelAspectRatio
    BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing
    WindowCenter WindowWidth VOILUTFunction VOILUTSequence RescaleIntercept RescaleSlope ModalityLUTSequence
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData
    SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence BurnedInAnnotation Modality ImageType SOPClassUID
"""
LOOK = _LOOK.split()
_WHOSE = ("SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID", "IssuerOfPatientID")
LABEL_TAGS = ("Modality", "BodyPartExamined", "ViewPosition", "ImageLaterality", "Laterality")
"""Coded tags that may serve as labels."""

_PREAMBLE = 128
_META_START = _PREAMBLE + 4 + 12
"""Preamble, ``DICM``, and the element that says how long the rest of the file header is."""
_TYPES = (b"OB", b"OW", b"OF", b"OD", b"UN")
_MOST_IN_MEMORY = 2**29
_CHUNK = 2**20
_PIXEL_DATA, _OTHER_PIXELS = 0x7FE00010, (0x7FE00008, 0x7FE00009)


@dataclass(frozen=True)
class Opened:
    """``source`` is what pydicom reads pixels from: the file, or, where it cannot (deflated), the data set."""

    header: Dataset
    source: BinaryIO | Dataset

    def digest(self) -> bytes:
        """SHA-256 of what decides the picture: the tags of ``LOOK``, the transfer syntax and the stored pixels."""
        found = hashlib.sha256(str(self.header.file_meta.TransferSyntaxUID).encode())
        for keyword in LOOK:
            found.update(f"{keyword}={self.header.get(keyword)!r}\n".encode())
        if isinstance(self.source, Dataset):
            found.update(self.source.PixelData)
            return found.digest()
        start = self.source.tell()
        while chunk := self.source.read(_CHUNK):
            found.update(chunk)
        self.source.seek(start)
        return found.digest()


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Read the tags of ``path`` up to its pixels.

    Raises:
        Skipped: it is no DICOM file, or has no pixels.
        Exception: nearly anything, for a damaged file.
    """
    with path.open("rb") as file:
        if file.read(_PREAMBLE + 4)[_PREAMBLE:] != b"DICM":
            raise Skipped(reasons.NOT_DICOM)
        meta = read_file_meta_info(path)
        if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise Skipped(reasons.DICOMDIR)
        if not meta.get("TransferSyntaxUID"):
            raise Skipped(reasons.NO_SYNTAX)
        if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            yield _in_memory(_inflated(file, meta))
            return
        file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*LOOK, *_WHOSE, *LABEL_TAGS])
        tag, as_announced = _next_element(file, meta.TransferSyntaxUID)
        _require_pixels(tag)
        if not as_announced:  # pydicom copes, but only with the whole file.
            if path.stat().st_size > _MOST_IN_MEMORY:
                raise Skipped(reasons.TOO_LARGE)
            yield _in_memory(pydicom.dcmread(path))
            return
        yield Opened(header, file)


def _in_memory(dataset: Dataset) -> Opened:
    _require_pixels(next((tag for tag in (_PIXEL_DATA, *_OTHER_PIXELS) if tag in dataset), 0))
    return Opened(dataset, dataset)


def _next_element(file: BinaryIO, syntax: UID) -> tuple[int, bool]:
    """The tag that comes next, and whether it is written as the file header says: with or without a type."""
    start = file.tell()
    begin = file.read(6)
    file.seek(start)
    if len(begin) < 6:
        return 0, True
    group, element = struct.unpack("<HH" if syntax.is_little_endian else ">HH", begin[:4])
    return group << 16 | element, (begin[4:] in _TYPES) != syntax.is_implicit_VR


def _require_pixels(tag: int) -> None:
    if tag in _OTHER_PIXELS:
        raise Skipped(reasons.NOT_A_PICTURE)
    if tag != _PIXEL_DATA:
        raise Skipped(reasons.NO_IMAGE)


def _inflated(file: BinaryIO, meta: FileMetaDataset) -> Dataset:
    """A deflated data set, unless it would fill the memory: a few kilobytes can be told to become gigabytes."""
    file.seek(_META_START + int(meta.FileMetaInformationGroupLength))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file.read(), _MOST_IN_MEMORY + 1)
    if len(content) > _MOST_IN_MEMORY:
        raise Skipped(reasons.TOO_LARGE)
    dataset = read_dataset(BytesIO(content), is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = meta
    return dataset
