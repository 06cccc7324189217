"""The pictures of an opened file, one frame at a time: decoded, displayed, with square pixels, as PNG."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import cast

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, iter_pixels

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import admission, reasons
from fedmedpeft.data.dicom.opened import LOOK, Opened
from fedmedpeft.data.dicom.reasons import Skipped
from fedmedpeft.data.dicom.window import Window, to_grey

SQUARED = "made wider or higher, because their pixels are not square"

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_OF_A_FRAME = ("PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence")
_SPACINGS = ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE, _MOST_STRETCH = 0.01, 10.0
_EVENLY = re.compile(r"[1-9]\d{0,5}")


@dataclass(frozen=True)
class Picture:
    """One frame: its number in the file from 1, its PNG, and notes about it."""

    frame: int
    png: bytes
    notes: tuple[str, ...]


def check_frames(wanted: str) -> str:
    """``all``, ``middle`` or how many, evenly spaced. Raises ConfigError where it is none of these."""
    if wanted not in ("all", "middle") and not _EVENLY.fullmatch(wanted):
        raise ConfigError(f"--frames '{wanted}': expected all, middle, or how many, evenly spaced (5).")
    return wanted


def frames_asked(wanted: str, count: int) -> int:
    """How many of ``count`` frames are imported."""
    return count if wanted == "all" else 1 if wanted == "middle" else min(int(wanted), count)


def chosen_frames(wanted: str, count: int) -> list[int]:
    """Frames from 0, of ``count``.

    >>> chosen_frames("3", 12)
    [2, 6, 10]
    """
    number = frames_asked(wanted, count)
    return [(2 * index + 1) * count // (2 * number) for index in range(number)]


def frame_count(header: Dataset) -> int:
    return max(1, int(header.get("NumberOfFrames") or 1))


def pictures(opened: Opened, frames: list[int], window: Window) -> Generator[Picture, None, None]:
    """The frames asked for. Whoever does not take all of them closes it, before the file is closed.

    Raises:
        Skipped: one of them cannot be decoded or displayed.
    """
    with closing(_decoded(opened, frames)) as decoded:
        for frame, pixels in zip(frames, decoded, strict=True):
            yield _picture(pixels, opened.header, frame, window)


def _decoded(opened: Opened, frames: list[int]) -> Generator[np.ndarray, None, None]:
    try:
        frames_of_it = cast("Generator[np.ndarray, None, None]", iter_pixels(opened.source, indices=frames))
        with closing(frames_of_it) as decoded:
            yield from decoded
    except Exception as error:  # A damaged file can make a decoder raise nearly anything.
        syntax = opened.header.file_meta.TransferSyntaxUID
        raise reasons.undecodable(syntax.name, admission.missing_packages(syntax)) from error


def _picture(pixels: np.ndarray, header: Dataset, frame: int, window: Window) -> Picture:
    try:
        view = _view(header, frame)
        shown, note = _shown(pixels, view, window)
        image = Image.fromarray(shown)
        squared = _squared(image, view)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError) as error:
        raise Skipped(reasons.DISPLAY) from error
    notes = (note, SQUARED if squared.size != image.size else "")
    return Picture(frame + 1, _png(squared), tuple(one for one in notes if one))


@contextmanager
def quiet() -> Iterator[None]:
    """pydicom's warnings and log lines quote tags' values: none of them may reach a screen or a log file."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(before)


def _view(header: Dataset, frame: int) -> Dataset:
    """The tags that hold for one frame: enhanced objects keep theirs in groups, shared or of the frame."""
    if _SHARED not in header and _PER_FRAME not in header:
        return header
    view = Dataset()
    view.update({header[tag].tag: header[tag] for tag in LOOK if tag in header})
    view.file_meta = header.file_meta
    for groups in (header.get(_SHARED) or [])[:1], (header.get(_PER_FRAME) or [])[frame : frame + 1]:
        for name in _OF_A_FRAME:
            items = groups[0].get(name) if groups else None
            if items:
                view.update(items[0])
    return view


def _shown(pixels: np.ndarray, view: Dataset, window: Window) -> tuple[np.ndarray, str]:
    if pixels.ndim == 3:
        return _eight_bits(pixels, 2 ** int(view.BitsStored) - 1), ""
    if view.PhotometricInterpretation == admission.PALETTE:
        coloured = apply_color_lut(pixels, view)[..., :3]
        return _eight_bits(coloured, int(np.iinfo(coloured.dtype).max)), ""
    return to_grey(pixels, view, window)


def _eight_bits(colours: np.ndarray, brightest: int) -> np.ndarray:
    """[rows, columns, 3] to uint8, by the range of the type."""
    if colours.dtype == np.uint8 and brightest == 255:
        return colours
    return np.rint(colours * (255 / brightest)).clip(0, 255).astype(np.uint8)


def _squared(image: Image.Image, view: Dataset) -> Image.Image:
    """With square pixels: the side that was sampled more coarsely grows, so nothing is lost."""
    ratio = _height_to_width(view)
    if not 1 / _MOST_STRETCH <= ratio <= _MOST_STRETCH:
        raise Skipped(reasons.STRETCHED)
    if abs(ratio - 1) <= _SQUARE:
        return image
    width, height = round(image.width * max(1.0, 1 / ratio)), round(image.height * max(1.0, ratio))
    if width * height > admission.MOST_PIXELS:
        raise Skipped(reasons.TOO_LARGE)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _height_to_width(view: Dataset) -> float:
    """Of one pixel; 1 where the file does not say."""
    for keyword in _SPACINGS:
        pair = view.get(keyword)
        if pair is not None and not isinstance(pair, str) and len(pair) == 2:
            height, width = float(pair[0]), float(pair[1])
            if height > 0 and width > 0:
                return height / width
    return 1.0


def _png(image: Image.Image) -> bytes:
    """Pixels only: no text, no time, no profile."""
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
