from __future__ import annotations

import numpy as np
import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.photometry import Photometry
from fedmedpeft.data.source import build_source
from fedmedpeft.data.sources.phantoms import PhantomOptions, Phantoms


def phantoms(**options: float) -> Phantoms:
    return Phantoms(PhantomOptions.model_validate(options))


def pixels(source: Phantoms, row: int) -> np.ndarray:
    return np.asarray(source.image(row)).astype(float)


def test_they_say_that_they_are_synthetic() -> None:
    source = build_source("phantoms")
    assert source.synthetic
    assert "SYNTHETIC" in source.description
    assert len(source.table) == 960


def test_an_image_depends_on_seed_and_row_alone() -> None:
    first, second = phantoms(images=30, seed=4), phantoms(images=30, seed=4)
    pixels(second, 3)
    assert np.array_equal(pixels(first, 7), pixels(second, 7))
    assert not np.array_equal(pixels(first, 7), pixels(first, 13))
    assert not np.array_equal(pixels(first, 7), pixels(phantoms(images=30, seed=5), 7))


def test_the_name_builds_the_same_data_and_other_options_are_other_data() -> None:
    source = phantoms(images=40, seed=3, shift=0.5)
    assert build_source(source.name).table.content_hash() == source.table.content_hash()
    hashes = {
        phantoms(images=40, seed=3, **change).table.content_hash() for change in ({}, {"size": 32}, {"shift": 0.1})
    }
    assert len(hashes) == 3


def test_images_are_rgb_of_the_size_asked_for_and_not_flat() -> None:
    source = phantoms(images=12, classes=6, size=48)
    for row in range(12):
        image = source.image(row)
        assert (image.mode, image.size) == ("RGB", (48, 48))
        assert np.asarray(image).std() > 3


def test_scanners_are_sites_of_equal_size() -> None:
    sites = phantoms(images=40, scanners=4).table.sites
    assert sites is not None
    assert [sites.count(f"scanner-{index:02d}") for index in range(4)] == [10] * 4


def test_scanners_differ_in_prevalence_and_in_looks_by_the_shift() -> None:
    def spread(shift: float) -> tuple[float, float]:
        source = phantoms(images=240, shift=shift, seed=1)
        site = np.arange(240) % 6
        shares = [np.bincount(source.table.labels[site == index], minlength=4) / 40 for index in range(6)]
        colours = [
            np.mean([pixels(source, row).mean(axis=(0, 1)) for row in range(index, 120, 6)], axis=0)
            for index in range(6)
        ]
        return float(np.std(shares, axis=0).mean()), float(np.std(colours, axis=0).mean())

    alike, different = spread(0.0), spread(1.0)
    assert different[0] > 1.5 * alike[0]
    assert different[1] > 3 * alike[1]


def test_without_shift_all_scanners_are_neutral_and_alike() -> None:
    for scanner in phantoms(shift=0.0).scanners:
        assert scanner.photometry == Photometry()
        assert scanner.zoom == 1.0
        assert scanner.prevalence == pytest.approx([0.25] * 4)


def test_a_patient_stays_with_one_scanner_and_has_one_background() -> None:
    source = phantoms(images=60, classes=6, patients=20, scanners=3, shift=0.0)
    patients, sites = source.table.patients, source.table.sites
    assert patients is not None
    assert sites is not None
    assert len(set(patients)) == 20
    assert len(set(zip(patients, sites, strict=True))) == 20
    corners = np.array([pixels(source, row)[:8, :8].mean(axis=(0, 1)) for row in range(60)])
    apart = np.abs(corners[:, None] - corners[None]).mean(axis=2)
    same = np.array([[p == q for q in patients] for p in patients])
    assert apart[same & ~np.eye(60, dtype=bool)].mean() < 0.7 * apart[~same].mean()


def test_without_patients_there_is_no_column() -> None:
    assert phantoms(images=12).table.patients is None


@pytest.mark.parametrize(
    "options", ["classes=7", "images=3", "patients=3", "patients=2000", "size=4", "shift=-1", "seed=-1", "scanner=2"]
)
def test_impossible_options_are_refused(options: str) -> None:
    with pytest.raises(ConfigError, match=options.split("=")[0]):
        build_source(f"phantoms({options})")
