from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmedpeft.data.decode import MISSING, NOT_FINITE, UNREADABLE, WRONG_KIND, from_pixels, open_image
from fedmedpeft.data.errors import DataError


def red(image: Image.Image) -> list[int]:
    assert image.mode == "RGB"
    return np.asarray(image)[0, :, 0].tolist()


def test_sixteen_bits_are_scaled_by_their_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 40000, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert red(open_image(tmp_path / name)) == [0, 4, 156, 255]


def test_thirty_two_bit_integers_are_read_as_sixteen_and_refused_above(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], dtype=np.int32)).save(tmp_path / "a.tif")
    assert red(open_image(tmp_path / "a.tif")) == [0, 255]
    for value in (65536, -1):
        Image.fromarray(np.array([[0, value]], dtype=np.int32)).save(tmp_path / "b.tif")
        with pytest.raises(DataError, match=str(value)) as caught:
            open_image(tmp_path / "b.tif")
        assert caught.value.public == WRONG_KIND


@pytest.mark.parametrize(("mode", "colour"), [("L", 77), ("LA", (77, 255)), ("1", 1), ("P", 5), ("CMYK", (0, 9, 9, 9))])
def test_every_common_mode_becomes_rgb(tmp_path: Path, mode: str, colour: int | tuple[int, ...]) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source = Image.new(mode, (4, 3), colour)
    source.save(path)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (4, 3))
    if mode in ("L", "LA"):
        assert image.getpixel((0, 0)) == (77, 77, 77)


def test_transparent_pixels_become_black(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (250, 250, 250, 0)).save(tmp_path / "a.png")
    assert red(open_image(tmp_path / "a.png")) == [0, 0]


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (4, 8)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_truncated_file_is_named_to_the_site_and_to_nobody_else(
    tmp_path: Path, name: str, write_image: Callable[..., Path]
) -> None:
    whole = write_image(f"whole-{name}", size=(64, 64)).read_bytes()
    for length in (0, 20, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match=name) as caught:
            open_image(tmp_path / name)
        assert caught.value.public == UNREADABLE


def test_missing_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        open_image(tmp_path / "nowhere.png")
    assert caught.value.public == MISSING
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_image(tmp_path)
    assert caught.value.public == UNREADABLE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.array([[0.5, value]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif") as caught:
        open_image(tmp_path / "a.tif")
    assert caught.value.public == NOT_FINITE


def test_floats_from_zero_to_one_are_read_and_others_refused() -> None:
    assert red(from_pixels(np.array([[0.0, 0.5, 1.0]]))) == [0, 128, 255]
    for pixels in ([[0.0, 255.0]], [[-0.1, 1.0]]):
        with pytest.raises(DataError, match=r"expected 0\.\.1"):
            from_pixels(np.array(pixels))


def test_arrays_of_the_usual_shapes_and_types() -> None:
    colour = np.zeros((2, 3, 3), dtype=np.uint8)
    colour[..., 1] = 9
    assert from_pixels(colour).getpixel((2, 1)) == (0, 9, 0)
    assert red(from_pixels(np.full((2, 3, 1), 7, dtype=np.uint8))) == [7, 7, 7]
    assert red(from_pixels(np.array([[True, False]]))) == [255, 0]


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2, 2), dtype=np.uint8),
        np.zeros((2, 2, 4, 3), dtype=np.uint8),
        np.zeros((0, 4), dtype=np.uint8),
        np.zeros((2, 2), dtype=np.int64),
    ],
)
def test_other_shapes_and_types_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError) as caught:
        from_pixels(pixels)
    assert caught.value.public == WRONG_KIND
