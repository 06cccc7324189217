"""From stored values to 8-bit grey: modality transform, then a lookup table or a window, all of it pydicom's.

8 bits, because that is what every backbone here reads (``fedmedpeft/data/decode.py``): a window chosen at import keeps
the contrast that matters, where 16 bits would be cut to 8 by their full range later.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing
from pydicom.valuerep import DSfloat

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.admission import INVERTED
from fedmedpeft.data.dicom.reasons import Skipped

_WHITE = 255
_BAND = 2**20
"""Pixels that are worked on at a time: in floating point a large frame is eight times its size."""
_OUTLIERS = 0.5
"""Per cent at either end that ``image`` lets saturate."""
_PAIR = re.compile(r"(?P<center>[+-]?\d+(?:\.\d+)?)/(?P<width>\d+(?:\.\d+)?)")

NO_WINDOW = "without a usable window of their own: the full range of their type is shown (see --window)"
FEWER_WINDOWS = "with fewer windows than asked for: their first is used"


@dataclass(frozen=True)
class Window:
    """Which values become black and white.

    Attributes:
        kind: ``file``: as the file says; ``fixed``: ``center`` and ``width``; ``full``: the range of its type;
            ``image``: that of each image, half a per cent off at either end.
        number: which of the file's windows, from 0.
    """

    kind: Literal["file", "fixed", "full", "image"] = "file"
    number: int = 0
    center: float = 0.0
    width: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Window:
        """``first``, ``2``, ``40/400`` (centre/width in the units after rescaling, such as HU), ``full``, ``image``.

        Raises:
            ConfigError: none of these.
        """
        if text == "first":
            return cls()
        if text in ("full", "image"):
            return cls("full" if text == "full" else "image")
        if text.isascii() and text.isdigit() and int(text) > 0:
            return cls(number=int(text) - 1)
        pair = _PAIR.fullmatch(text)
        if pair is None or float(pair["width"]) < 1:
            raise ConfigError(
                f"--window '{text}': expected first, the number of a window in the file (2), CENTRE/WIDTH with a width "
                "of at least 1 (40/400), full or image."
            )
        return cls("fixed", 0, float(pair["center"]), float(pair["width"]))


@dataclass(frozen=True)
class Ramp:
    """A window with numbers: ``function`` is the standard's LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"

    def show(self, values: np.ndarray) -> np.ndarray:
        """Values after the modality transform to 0..255, in floating point."""
        screen = Dataset()
        screen.PhotometricInterpretation, screen.PixelRepresentation, screen.BitsStored = "MONOCHROME2", 0, 8
        screen.WindowCenter = DSfloat(self.center, auto_format=True)
        screen.WindowWidth = DSfloat(self.width, auto_format=True)
        screen.VOILUTFunction = self.function
        return apply_windowing(values, screen)


class Table:
    """The first VOI lookup table of a file.

    pydicom looks entries up by numbers of the type of the output: so a table of 8-bit output is declared one of 16, or
    its entries beyond the 256th could not be reached, and values are first brought into the table's range.
    """

    def __init__(self, view: Dataset) -> None:
        self._view = Dataset()
        self._view.file_meta = view.file_meta
        table = copy.deepcopy(view.VOILUTSequence[0])
        entries, self._first, depth = (int(part) for part in table.LUTDescriptor)
        self._last = self._first + (entries or 2**16) - 1
        self._brightest = 2**depth - 1
        table["LUTDescriptor"].value = [entries, self._first, max(depth, 10)]
        self._view.VOILUTSequence = [table]

    def show(self, values: np.ndarray) -> np.ndarray:
        """Values after the modality transform to 0..255, in floating point."""
        inside = np.clip(np.rint(values), self._first, self._last).astype(np.int64)
        return np.asarray(apply_voi(inside, self._view) * (_WHITE / self._brightest))


def to_grey(stored: np.ndarray, view: Dataset, window: Window) -> tuple[np.ndarray, str]:
    """One frame as uint8 [rows, columns] where white is 255, and a note about it ('' for none).

    Args:
        stored: [rows, columns] as stored.
        view: the tags that hold for this frame.

    Raises:
        Skipped: no usable rescale or lookup table.
    """
    stored = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
    padding = _padding(stored, view)
    curve, note = _curve(stored, padding, view, window)
    shown = np.empty(stored.shape, dtype=np.uint8)
    rows = max(1, _BAND // stored.shape[1])
    for start in range(0, len(stored), rows):
        band = slice(start, start + rows)
        grey = curve.show(apply_modality_lut(stored[band], view))
        if not np.isfinite(grey).all():
            raise Skipped(reasons.DISPLAY)
        shown[band] = np.rint(np.clip(grey, 0, _WHITE))
    if view.PhotometricInterpretation == INVERTED:
        shown = _WHITE - shown
    shown[padding] = 0
    return shown, note


def _curve(stored: np.ndarray, padding: np.ndarray, view: Dataset, window: Window) -> tuple[Ramp | Table, str]:
    if window.kind == "fixed":
        return Ramp(window.center, window.width), ""
    if window.kind == "image" and not padding.all():
        low, high = np.percentile(apply_modality_lut(stored[~padding], view), (_OUTLIERS, 100 - _OUTLIERS))
        return _between(float(low), float(high)), ""
    if window.kind == "file":
        if window.number == 0 and _has_table(view):
            return Table(view), ""
        ramps = _ramps(view)
        if ramps:
            missing = window.number >= len(ramps)
            return ramps[0 if missing else window.number], FEWER_WINDOWS if missing else ""
    return _between(*_full_range(view)), NO_WINDOW if window.kind == "file" else ""


def _has_table(view: Dataset) -> bool:
    tables = view.get("VOILUTSequence")
    return bool(tables) and all(tables[0].get(tag) is not None for tag in ("LUTDescriptor", "LUTData"))


def _ramps(view: Dataset) -> list[Ramp]:
    """The file's windows, as far as they are usable; a width of 0 is common in the wild and means none."""
    function = str(view.get("VOILUTFunction") or "LINEAR").strip().upper()
    centers, widths = (_numbers(view.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    narrowest = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    pairs = zip(centers, widths, strict=False)
    return [Ramp(center, width, function) for center, width in pairs if np.isfinite(center) and width >= narrowest]


def _numbers(value: object) -> list[float]:
    if value is None or value == "":
        return []
    values = value if isinstance(value, list) or hasattr(value, "__iter__") else [value]
    return [float(one) for one in values if one not in (None, "")]


def _between(low: float, high: float) -> Ramp:
    if not np.isfinite([low, high]).all():
        raise Skipped(reasons.DISPLAY)
    return Ramp((low + high) / 2, (high - low) or 1.0, "LINEAR_EXACT")


def _full_range(view: Dataset) -> tuple[float, float]:
    """What the stored type can hold, after the modality transform."""
    if view.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(view.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits, signed = int(view.BitsStored), bool(view.get("PixelRepresentation"))
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = sorted(float(end) for end in apply_modality_lut(ends, view))
    return low, high


def _padding(stored: np.ndarray, view: Dataset) -> np.ndarray:
    """Where there is no picture: the file's padding value, or the range that it begins."""
    value, limit = view.get("PixelPaddingValue"), view.get("PixelPaddingRangeLimit")
    if value is None or value == "":
        return np.zeros(stored.shape, dtype=bool)
    low, high = sorted((int(value), int(value if limit in (None, "") else limit)))
    return np.asarray((stored >= low) & (stored <= high))
