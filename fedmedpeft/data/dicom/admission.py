"""Whether a file holds an image that may be imported, decided from its tags before a pixel is decoded."""

from __future__ import annotations

from typing import Literal

from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.reasons import Skipped

BurnedIn = Literal["skip", "keep-unmarked", "keep"]
Localizers = Literal["skip", "keep"]

MOST_PIXELS = 64 * 2**20
"""Of one frame: a mammogram has up to 28 million."""
MOST_FRAMES = 2**16
MOST_VALUES = 2**32
"""Of all frames that are imported of one file."""

COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""pydicom gives all of these as RGB."""
PALETTE, INVERTED, GREY = "PALETTE COLOR", "MONOCHROME1", ("MONOCHROME1", "MONOCHROME2")

_NO_PICTURES = ("RTDOSE", "SEG")
_OFTEN_BURNED_IN = ("US", "IVUS", "ES", "OT", "SC")
"""Ultrasound, endoscopy and captures of a screen draw names and dates into the picture."""
_CAPTURED_ON_SCREEN = ("XA", "RF")
"""Where these are secondary, they were."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_MOST_BITS = 32
_DECODERS = {"gdcm": "python-gdcm", "pyjpegls": "pyjpegls", "pylibjpeg-openjpeg": "pylibjpeg-openjpeg"}
"""pydicom's name of what a decoder needs -> the package that has it."""


def check_kind(header: Dataset, burned_in: BurnedIn, localizers: Localizers) -> None:
    """What the image is of, and whether text may be drawn into it.

    Raises:
        Skipped
    """
    if _word(header, "Modality") in _NO_PICTURES:
        raise Skipped(reasons.NOT_A_PICTURE)
    marked = _word(header, "BurnedInAnnotation")
    if marked == "YES" and burned_in != "keep":
        raise Skipped(reasons.BURNED_IN)
    # Only a plain NO says that there is none.
    if marked != "NO" and burned_in == "skip" and _often_burned_in(header):
        raise Skipped(reasons.MAYBE_BURNED_IN)
    if localizers == "skip" and "LOCALIZER" in _image_type(header):
        raise Skipped(reasons.LOCALIZER)


def check_size(header: Dataset, frames: int) -> None:
    """``frames``: how many of it are asked for.

    Raises:
        Skipped
    """
    rows, columns, samples, bits, stored = (
        int(header.get(tag) or 0) for tag in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
    )
    if min(rows, columns, stored) < 1 or not stored <= bits <= _MOST_BITS or samples not in (1, 3):
        raise Skipped(reasons.BAD_SIZE)
    if rows * columns > MOST_PIXELS or frames > MOST_FRAMES or rows * columns * samples * frames > MOST_VALUES:
        raise Skipped(reasons.TOO_LARGE)
    if _photometry(header) not in (COLOUR if samples == 3 else (*GREY, PALETTE)):
        raise Skipped(reasons.COLOURS)


def check_decoder(syntax: UID) -> None:
    """Raises Skipped, naming the packages, where nothing that is installed reads this compression."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Skipped(reasons.UNDECODABLE) from None
    if not decoder.is_available:
        raise reasons.no_decoder(syntax.name, missing_packages(syntax))


def missing_packages(syntax: UID) -> str:
    """What of the extra ``dicom`` could decode ``syntax`` and is not there, ``or`` between them; empty for nothing."""
    needed = " ".join(get_decoder(syntax).missing_dependencies)
    return " or ".join(package for module, package in _DECODERS.items() if module in needed)


def _often_burned_in(header: Dataset) -> bool:
    if _word(header, "Modality") in _OFTEN_BURNED_IN:
        return True
    kind = str(header.get("SOPClassUID") or "")
    if kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}."):
        return True
    return _word(header, "Modality") in _CAPTURED_ON_SCREEN and "SECONDARY" in _image_type(header)


def _photometry(header: Dataset) -> str:
    return _word(header, "PhotometricInterpretation")


def _image_type(header: Dataset) -> list[str]:
    found = header.get("ImageType") or []
    return [str(part).strip().upper() for part in ([found] if isinstance(found, str) else found)]


def _word(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip().upper()
