"""From a file or an array to an 8-bit RGB image, or a reason why not.

Bit depths are scaled by the range of their type, never by the range of one image: two images keep their relation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fedmedpeft.data.errors import PRIVATE, DataError

MISSING = "An image file is missing."
UNREADABLE = "An image is truncated or unreadable."
NOT_FINITE = "An image has NaN or infinite pixels."
WRONG_KIND = "An image has an unsupported shape or value range."
PUBLIC_REASONS = frozenset({MISSING, UNREADABLE, NOT_FINITE, WRONG_KIND, PRIVATE})
"""All that a site tells others of why an image was left out."""


def open_image(path: Path) -> Image.Image:
    """Read a file as RGB, upright by its EXIF orientation; of several frames the first.

    Raises:
        DataError: missing, truncated, not an image, not finite, or values in an unknown range.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            return to_rgb(ImageOps.exif_transpose(opened))
    except DataError as error:
        raise DataError(f"Image '{path}': {error}", public=error.public) from None
    except FileNotFoundError:
        raise DataError(f"Image '{path}' does not exist. Check its name and the root folder.", public=MISSING) from None
    except Exception as error:  # A damaged file can make a decoder raise nearly anything; none of it may end a round.
        raise DataError(f"Image '{path}' cannot be read ({error}). Copy it again.", public=UNREADABLE) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: 16-bit by its full range, floats from 0..1, transparency over black.

    Raises:
        DataError: values that are not finite or outside the range of their type.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return from_pixels(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        return from_pixels(_as_16_bit(np.asarray(image)))
    if image.mode == "F":
        return from_pixels(np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "black"), layer).convert("RGB")
    return image.convert("RGB")


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """An array [H, W], [H, W, 1] or [H, W, 3] of bool, uint8, uint16 or float in 0..1 to an RGB image.

    Raises:
        DataError: another shape or type, NaN or infinite values, or floats outside 0..1.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(f"shape {pixels.shape}; expected [height, width] or [height, width, 3].", public=WRONG_KIND)
    return Image.fromarray(_as_8_bit(pixels)).convert("RGB")


def _as_8_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257.0).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"pixels of type {pixels.dtype}; expected uint8, uint16 or float in 0..1.", public=WRONG_KIND)
    if not np.isfinite(pixels).all():
        raise DataError("NaN or infinite pixels; export the image again.", public=NOT_FINITE)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise DataError(
            f"floating-point pixels in {low:.4g}..{high:.4g}; expected 0..1. Scale them, or save 8 or 16 bit.",
            public=WRONG_KIND,
        )
    return np.rint(pixels * 255.0).astype(np.uint8)


def _as_16_bit(pixels: np.ndarray) -> np.ndarray:
    """Pillow's 32-bit mode holds 16-bit files of several formats; more than 16 bits has no known white."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise DataError(f"integer pixels in {low}..{high}; expected 0..65535. Save 8 or 16 bit.", public=WRONG_KIND)
    return pixels.astype(np.uint16)
