from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fedmedpeft.data.photometry import Photometry, apply_photometry, draw_photometry


def grey(value: int = 128, size: int = 32) -> Image.Image:
    return Image.new("RGB", (size, size), (value, value, value))


def shot(device: Photometry, image: Image.Image, seed: int = 0) -> np.ndarray:
    return np.asarray(apply_photometry(image, device, np.random.default_rng(seed))).astype(float)


def test_no_strength_is_the_neutral_device_and_changes_nothing() -> None:
    device = draw_photometry(np.random.default_rng(0), 0.0)
    assert device == Photometry()
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    assert np.array_equal(shot(device, image), np.asarray(image))


def test_more_strength_is_more_difference() -> None:
    def change(strength: float) -> float:
        devices = [draw_photometry(np.random.default_rng(seed), strength) for seed in range(20)]
        return float(np.mean([np.abs(shot(device, grey()) - 128).mean() for device in devices]))

    assert 2 < change(0.3) < change(1.0)


def test_each_property_does_what_it_says() -> None:
    assert shot(Photometry(gain=(0.5, 1.0, 1.0)), grey())[0, 0].tolist() == [64, 128, 128]
    assert shot(Photometry(gamma=2.0), grey(51)).max() == 10
    swap = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    assert shot(Photometry(stain=swap), Image.new("RGB", (4, 4), (10, 20, 30)))[0, 0].tolist() == [20, 10, 30]
    dark = shot(Photometry(vignette=1.0), grey())
    assert dark[0, 0, 0] == 0
    assert dark[16, 16, 0] > 120
    noisy = shot(Photometry(noise=0.05), grey())
    assert noisy.std() == pytest.approx(0.05 * 255, rel=0.1)
    half = Image.fromarray(np.repeat(np.repeat([[[0] * 3, [255] * 3]], 16, axis=1), 32, axis=0).astype(np.uint8))
    assert 0 < shot(Photometry(blur=0.05), half)[16, 15, 0] < 255


def test_the_noise_comes_from_the_generator_alone() -> None:
    device = Photometry(noise=0.1)
    assert np.array_equal(shot(device, grey(), seed=3), shot(device, grey(), seed=3))
    assert not np.array_equal(shot(device, grey(), seed=3), shot(device, grey(), seed=4))


@pytest.mark.parametrize(
    "values",
    [{"stain": (1.0, 0.0)}, {"gamma": 0.0}, {"gain": (1.0, -1.0, 1.0)}, {"noise": float("nan")}, {"vignette": 1.5}],
)
def test_impossible_devices_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a device needs"):
        Photometry(**values)  # type: ignore[arg-type]
