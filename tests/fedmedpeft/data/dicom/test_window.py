"""Grey values, against the standard's formulas worked out by hand, and against pydicom's own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.reasons import Skipped
from fedmedpeft.data.dicom.window import FEWER_WINDOWS, NO_WINDOW, Window
from tests.fedmedpeft.data.dicom.dicom_files import RAMP, made, one, save, shown


def test_without_a_window_the_range_of_the_type_is_shown(tmp_path: Path) -> None:
    assert one(tmp_path, made()) == RAMP.tolist()
    (picture,) = shown(tmp_path / "one.dcm")
    assert picture.notes == (NO_WINDOW,)


def test_linear_window_is_the_standards_formula(tmp_path: Path) -> None:
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 with c = 100, w = 101.
    expected = [[0, 1, 129], [255, 255, 255]]
    assert one(tmp_path, made(WindowCenter=100, WindowWidth=101)) == expected
    assert round(((50 - 99.5) / 100 + 0.5) * 255) == 1
    assert round(((100 - 99.5) / 100 + 0.5) * 255) == 129


def test_linear_exact_and_sigmoid(tmp_path: Path) -> None:
    exact = made(WindowCenter=100, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    assert one(tmp_path, exact)[0] == [0, 0, 128]  # ((100 - 100) / 100 + 0.5) * 255 = 127.5, to even
    sigmoid = made(WindowCenter=100, WindowWidth=100, VOILUTFunction="SIGMOID")
    expected = [[round(255 / (1 + np.exp(-4 * (x - 100) / 100))) for x in row] for row in RAMP.tolist()]
    assert one(tmp_path, sigmoid) == expected


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    stored = np.array([[0, 1024, 1064, 1264]], dtype=np.uint16)
    dataset = made(stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    # In Hounsfield units -1024, 0, 40, 240; black at -160, white at 240.
    expected = [0, *(round(((x - 39.5) / 399 + 0.5) * 255) for x in (0, 40)), 255]
    assert one(tmp_path, dataset) == [expected]
    assert one(tmp_path, dataset, "40/400") == [expected]
    assert one(tmp_path, dataset, "full") == [[round(x / 4095 * 255) for x in stored[0]]]


def test_inverted_grey_and_padding(tmp_path: Path) -> None:
    dataset = made(PhotometricInterpretation="MONOCHROME1")
    assert one(tmp_path, dataset) == (255 - RAMP).tolist()
    dataset.PixelPaddingValue = 0
    assert one(tmp_path, dataset) == [[0, 205, 155], [105, 55, 0]]
    dataset.PixelPaddingRangeLimit = 60
    assert one(tmp_path, dataset) == [[0, 0, 155], [105, 55, 0]]


def test_signed_and_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    signed = np.array([[-32768, 0, 32767]], dtype=np.int16)
    assert one(tmp_path, made(signed)) == [[0, 128, 255]]
    # The four bits above the twelve may hold anything, such as an old overlay.
    dirty = np.array([[0xF000, 0xA800, 0x0FFF]], dtype=np.uint16)
    assert one(tmp_path, made(dirty, BitsStored=12)) == [[0, round(0x800 / 4095 * 255), 255]]


def test_of_several_windows_the_first_or_the_one_asked_for(tmp_path: Path) -> None:
    dataset = made(WindowCenter=[100, 200], WindowWidth=[1, 1])
    # With a width of 1: all up to centre - 0.5 is black, all above is white.
    assert one(tmp_path, dataset) == [[0, 0, 255], [255, 255, 255]]
    assert one(tmp_path, dataset, "2") == [[0, 0, 0], [0, 255, 255]]
    assert one(tmp_path, dataset, "3") == [[0, 0, 255], [255, 255, 255]]
    assert shown(tmp_path / "one.dcm", "3")[0].notes == (FEWER_WINDOWS,)


def test_a_width_of_zero_is_no_window(tmp_path: Path) -> None:
    assert one(tmp_path, made(WindowCenter=0, WindowWidth=0)) == RAMP.tolist()


def test_the_images_own_range_leaves_padding_out(tmp_path: Path) -> None:
    pixels = np.full((1, 402), 0, dtype=np.uint16)
    pixels[0, 1:] = np.arange(1000, 1401)
    (row,) = one(tmp_path, made(pixels, PixelPaddingValue=0), "image")
    assert row[0] == 0
    # Half a per cent of 400 steps saturates at each end: 1002 is black, 1398 white.
    assert (row[3], row[201], row[399]) == (0, 128, 255)
    assert one(tmp_path, made(np.full((1, 2), 7, dtype=np.uint16)), "image") == [[128, 128]]


def _table(data: list[int], first: int, depth: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(data), first, depth])
    item.add_new("LUTData", "US", data)
    return item


@pytest.mark.parametrize(("depth", "white"), [(8, 255), (12, 4095), (16, 65535)])
def test_lookup_table_goes_before_the_window(tmp_path: Path, depth: int, white: int) -> None:
    dataset = made(WindowCenter=1, WindowWidth=1)
    dataset.VOILUTSequence = [_table([white, 0, white], 100, depth)]
    # Below the table its first entry, above its last.
    assert one(tmp_path, dataset) == [[255, 255, 255], [255, 255, 255]]
    dataset.VOILUTSequence = [_table([0, 0, white], 99, depth)]
    assert one(tmp_path, dataset) == [[0, 0, 0], [255, 255, 255]]


def test_a_table_of_eight_bits_may_have_more_than_256_entries(tmp_path: Path) -> None:
    stored = np.array([[0, 300, 4095]], dtype=np.uint16)
    dataset = made(stored, BitsStored=12)
    dataset.VOILUTSequence = [_table([min(x // 4, 255) for x in range(1024)], 0, 8)]
    assert one(tmp_path, dataset) == [[0, 75, 255]]


def test_modality_table_and_a_broken_one(tmp_path: Path) -> None:
    dataset = made(np.array([[0, 1, 2]], dtype=np.uint8))
    item = _table([65535, 0, 32768], 0, 16)
    item.ModalityLUTType = "US"
    dataset.ModalityLUTSequence = [item]
    assert one(tmp_path, dataset) == [[255, 0, 128]]
    dataset.ModalityLUTSequence = [_table([1, 2], 0, 11)]
    with pytest.raises(Skipped, match=reasons.DISPLAY):
        one(tmp_path, dataset)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_slope_that_is_no_number_is_refused(tmp_path: Path) -> None:
    dataset = made(RescaleIntercept=0)
    dataset.add_new("RescaleSlope", "DS", "nan")
    with pytest.raises(Skipped, match=reasons.DISPLAY):
        one(tmp_path, dataset)


def test_bands_of_a_large_image_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(35, dtype=np.uint8).reshape(7, 5)
    whole = one(tmp_path, made(pixels, WindowCenter=17, WindowWidth=30))
    monkeypatch.setattr("fedmedpeft.data.dicom.window._BAND", 10)
    assert one(tmp_path, made(pixels, WindowCenter=17, WindowWidth=30)) == whole


@pytest.mark.parametrize("text", ["", "0", "40", "40/0.5", "40x400", "lung", "nan/400", "²"])
def test_windows_that_make_no_sense(text: str, tmp_path: Path) -> None:
    if text == "40":  # the fortieth window of a file: legal, and there is none
        assert Window.parse(text).number == 39
        return
    with pytest.raises(ConfigError, match="--window"):
        Window.parse(text)


def test_a_window_of_one_number_is_saved_and_read(tmp_path: Path) -> None:
    path = save(made(WindowCenter="127.5", WindowWidth="256"), tmp_path / "a.dcm")
    assert shown(path)[0].notes == ()
