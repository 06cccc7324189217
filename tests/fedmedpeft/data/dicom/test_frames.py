"""Colours, frames, compressions and the shape of pixels."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.admission import check_decoder, missing_packages
from fedmedpeft.data.dicom.frames import SQUARED, check_frames, chosen_frames
from fedmedpeft.data.dicom.reasons import Skipped
from tests.fedmedpeft.data.dicom.dicom_files import RAMP, made, one, save, seen, shown

_RED, _GREY = [254, 0, 0], [128, 128, 128]


def test_colours(tmp_path: Path) -> None:
    rgb = np.array([[[200, 10, 30], [1, 2, 3]]], dtype=np.uint8)
    assert one(tmp_path, made(rgb)) == rgb.tolist()
    planes = made(rgb.transpose(2, 0, 1).copy().reshape(1, 2, 3), PlanarConfiguration=1)
    assert one(tmp_path, planes) == rgb.tolist()
    deep = (rgb.astype(np.uint16) * 257).astype(np.uint16)
    assert one(tmp_path, made(deep)) == rgb.tolist()
    assert one(tmp_path, made(rgb.astype(np.uint16), BitsStored=8)) == rgb.tolist()
    # A window is for grey images: here it means nothing.
    assert one(tmp_path, made(rgb, WindowCenter=1, WindowWidth=1)) == rgb.tolist()


def test_luminance_and_chrominance(tmp_path: Path) -> None:
    ybr = np.array([[[76, 85, 255], [128, 128, 128]]], dtype=np.uint8)
    assert one(tmp_path, made(ybr, PhotometricInterpretation="YBR_FULL")) == [[_RED, _GREY]]
    dataset = made(ybr, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = bytes([76, 76, 85, 255])  # two luminances share their colour
    assert one(tmp_path, dataset) == [[_RED, _RED]]


@pytest.mark.parametrize("depth", [8, 16])
def test_palette(tmp_path: Path, depth: int) -> None:
    dataset = made(np.array([[0, 1, 9]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, entries in {"Red": [255, 0], "Green": [0, 64], "Blue": [0, 255]}.items():
        values = [entry * 257 for entry in entries] if depth == 16 else entries
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, depth])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", struct.pack("<2H" if depth == 16 else "2B", *values))
    assert one(tmp_path, dataset) == [[[255, 0, 0], [0, 64, 255], [0, 64, 255]]]


def test_frames_that_are_asked_for() -> None:
    assert chosen_frames("all", 3) == [0, 1, 2]
    assert chosen_frames("middle", 5) == [2]
    assert chosen_frames("1", 5) == chosen_frames("middle", 5)
    assert chosen_frames("3", 12) == [2, 6, 10]
    assert chosen_frames("9", 2) == [0, 1]
    for wrong in ("0", "-1", "first", "1.5", ""):
        with pytest.raises(ConfigError, match="--frames"):
            check_frames(wrong)


def test_each_frame_is_a_picture(tmp_path: Path) -> None:
    pixels = np.arange(4, dtype=np.uint8)[:, None, None].repeat(2, axis=1).repeat(2, axis=2)
    path = save(made(pixels, NumberOfFrames=4), tmp_path / "a.dcm")
    assert [(p.frame, seen(p)[0, 0]) for p in shown(path)] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert [(p.frame, seen(p)[0, 0]) for p in shown(path, frames="2")] == [(2, 1), (4, 3)]


def test_enhanced_objects_have_windows_of_each_frame(tmp_path: Path) -> None:
    dataset = made(np.stack([RAMP, RAMP]), NumberOfFrames=2)
    shared, rescale = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, -100
    shared.PixelValueTransformationSequence = [rescale]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for center in (0, 100):
        groups, window = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 1
        groups.FrameVOILUTSequence = [window]
        dataset.PerFrameFunctionalGroupsSequence.append(groups)
    first, second = shown(save(dataset, tmp_path / "a.dcm"))
    # After rescaling: -100, -50, 0, 50, 100, 155.
    assert seen(first).tolist() == [[0, 0, 255], [255, 255, 255]]
    assert seen(second).tolist() == [[0, 0, 0], [0, 255, 255]]


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_compressions_that_need_nothing(tmp_path: Path, syntax: str) -> None:
    dataset = made(RAMP, WindowCenter=100, WindowWidth=101)
    plain = one(tmp_path, dataset)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    assert one(tmp_path, dataset) == plain


def test_a_missing_decoder_is_named() -> None:
    if not missing_packages(JPEGLosslessSV1):
        pytest.skip("this machine has it")
    with pytest.raises(Skipped, match=r"JPEG Lossless.*fedmedpeft\[dicom\].*python-gdcm"):
        check_decoder(JPEGLosslessSV1)
    with pytest.raises(Skipped, match=reasons.UNDECODABLE):
        check_decoder("1.2.3.4")  # type: ignore[arg-type]


def test_damaged_pixels_are_skipped_and_not_quoted(tmp_path: Path) -> None:
    dataset = made(syntax=JPEG2000Lossless)
    dataset.PixelData = encapsulate([b"Meier^Anna is no codestream"])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(Skipped, match="could not be decoded") as caught:
        one(tmp_path, dataset)
    assert "Meier" not in str(caught.value)
    short = made(np.zeros((4, 4), dtype=np.uint16))
    short.PixelData = b"\0\0"
    with pytest.raises(Skipped, match="could not be decoded"):
        one(tmp_path, short)


@pytest.mark.parametrize(
    ("tag", "spacing", "shape"),
    [
        ("PixelSpacing", [2, 1], (4, 3)),
        ("PixelAspectRatio", [1, 2], (2, 6)),
        ("ImagerPixelSpacing", [0.3, 0.3], (2, 3)),
        ("PixelSpacing", [0, 0], (2, 3)),
    ],
)
def test_pixels_become_square(tmp_path: Path, tag: str, spacing: list[float], shape: tuple[int, int]) -> None:
    (picture,) = shown(save(made(**{tag: spacing}), tmp_path / "a.dcm"))
    assert seen(picture).shape == shape
    assert (SQUARED in picture.notes) == (shape != (2, 3))


def test_pixels_like_needles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Skipped, match=reasons.STRETCHED):
        one(tmp_path, made(PixelSpacing=[100, 1]))


def test_a_png_holds_pixels_only(tmp_path: Path) -> None:
    (picture,) = shown(save(made(), tmp_path / "a.dcm"))
    kinds, rest = [], picture.png[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        kinds.append(rest[4:8])
        rest = rest[12 + length :]
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
