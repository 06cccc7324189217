from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pretraining.textures import TextureFormula

PLAIN = TextureFormula(slope=1.0, centre=8.0, bandwidth=0.3, band=0.0, direction=0.0, focus=0.0, bend="plain")


def _power(formula: TextureFormula) -> np.ndarray:
    tone = formula.render(32, 64, np.random.default_rng(0))[:, 1]
    return np.abs(np.fft.rfft2(tone - tone.mean((1, 2), keepdims=True))) ** 2


def _radial(power: np.ndarray) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(64, 1 / 64)[:, None], np.fft.rfftfreq(64, 1 / 64)[None])
    return np.array([power.mean(0)[(frequency >= f - 0.5) & (frequency < f + 0.5)].mean() for f in range(1, 32)])


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.5])
def test_the_spectrum_falls_with_the_slope(slope: float) -> None:
    radial = _radial(_power(dataclasses.replace(PLAIN, slope=slope)))[1:20]
    fitted = np.polyfit(np.log(np.arange(2, 21)), np.log(radial), 1)[0]

    assert fitted == pytest.approx(-2 * slope, abs=0.35)  # power is amplitude squared


def test_a_band_peaks_at_its_centre() -> None:
    radial = _radial(_power(dataclasses.replace(PLAIN, band=8.0, centre=10.0)))

    assert abs(int(radial[4:].argmax()) + 5 - 10) <= 2


def test_focus_gives_a_direction() -> None:
    """Direction 0 is a wave along x: its power lies on the x axis of the spectrum."""
    power = _power(dataclasses.replace(PLAIN, focus=8.0)).mean(0)

    assert power[0, 1:9].sum() > 20 * power[1:9, 0].sum()


@pytest.mark.parametrize("bend", ["plain", "ridges", "islands", "sparks"])
def test_every_bend_stays_in_range_and_uses_it(bend: str) -> None:
    tone = dataclasses.replace(PLAIN, bend=bend).render(8, 32, np.random.default_rng(0))[:, 1]

    assert tone.min() >= 0
    assert tone.max() <= 1
    assert tone.max() - tone.min() > 0.5
