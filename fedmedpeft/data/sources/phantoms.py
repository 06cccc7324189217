"""Phantoms: generated, lesion-like images from generated scanners. The default where there is no data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from fedmedpeft.components import Options
from fedmedpeft.data.photometry import Photometry, apply_photometry, draw_photometry
from fedmedpeft.data.source import SOURCES, ImageTable, describe
from fedmedpeft.data.sources.phantom_lesions import KINDS, render

# Streams of random numbers that must not depend on one another.
_TABLE, _SCANNER, _PATIENT, _IMAGE = range(4)


class PhantomOptions(Options):
    """Options of ``phantoms``."""

    images: int = Field(960, ge=1, le=999_999, description="how many images, dealt evenly to the scanners")
    classes: int = Field(4, ge=2, le=len(KINDS), description="kinds of lesion")
    scanners: int = Field(6, ge=1, le=99, description="devices; each is a natural site")
    size: int = Field(64, ge=16, le=512, description="pixels a side")
    shift: float = Field(1.0, ge=0, le=3, description="how much scanners differ in looks and prevalence; 0: not at all")
    seed: int = Field(0, ge=0, description="all randomness comes from it")
    patients: int = Field(0, ge=0, description="patients that share the images; 0: one image each, no patient column")

    @model_validator(mode="after")
    def _enough_of_each(self) -> PhantomOptions:
        if self.patients and not self.scanners <= self.patients <= self.images:
            raise ValueError(f"patients must be 0 or between scanners={self.scanners} and images={self.images}")
        if self.images < self.scanners:
            raise ValueError(f"images must be at least scanners={self.scanners}")
        return self


@dataclass(frozen=True)
class Scanner:
    """One generated device and the people who come to it."""

    photometry: Photometry
    zoom: float
    prevalence: np.ndarray


@SOURCES.register("phantoms", PhantomOptions)
class Phantoms:
    """SYNTHETIC lesion-like images that differ by shape, margin, texture and number; none shows a person.

    Each scanner has its own gain, gamma, blur, stain, noise, vignette, field of view and prevalence of classes. An
    image is rendered when asked for, from the seed and its row alone. Images of one patient share their background.

    Example: ``phantoms(images=600, scanners=4, shift=1.5, seed=1)``
    """

    synthetic = True

    def __init__(self, options: PhantomOptions) -> None:
        self.options = options
        self.name = f"phantoms({', '.join(f'{key}={value}' for key, value in options)})"
        self.scanners = [_draw_scanner(options, index) for index in range(options.scanners)]
        self.table = _draw_table(options, self.scanners, self.name)
        self.description = f"SYNTHETIC phantoms, not patients: {describe(self.table, 'a generator')}"

    def image(self, row: int) -> Image.Image:
        options = self.options
        scanner = self.scanners[row % options.scanners]
        rng = np.random.default_rng([options.seed, _IMAGE, row])
        owner = int(self.table.patients[row][1:]) if self.table.patients is not None else options.images + row
        tissue = np.random.default_rng([options.seed, _PATIENT, owner])
        kind = self.table.classes[self.table.labels[row]]
        drawn = render(kind, options.size, scanner.zoom, rng=rng, tissue=tissue)
        return apply_photometry(drawn, scanner.photometry, rng)


def _draw_scanner(options: PhantomOptions, index: int) -> Scanner:
    rng = np.random.default_rng([options.seed, _SCANNER, index])
    photometry = draw_photometry(rng, options.shift)
    zoom = float(np.exp(0.2 * options.shift * rng.uniform(-1, 1)))
    prevalence = np.exp(0.8 * options.shift * rng.standard_normal(options.classes))
    return Scanner(photometry, zoom, prevalence / prevalence.sum())


def _draw_table(options: PhantomOptions, scanners: list[Scanner], name: str) -> ImageTable:
    """Row ``i`` is from scanner ``i % scanners``; labels follow that scanner's prevalence."""
    rng = np.random.default_rng([options.seed, _TABLE])
    rows = np.arange(options.images)
    scanner_of = rows % options.scanners
    kinds = KINDS[: options.classes]
    classes = tuple(sorted(kinds))
    labels = np.array([rng.choice(options.classes, p=scanners[scanner].prevalence) for scanner in scanner_of])
    # Two generators with other options must not pass for the same data, so the keys carry all of the options.
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return ImageTable(
        keys=tuple(f"{digest}/{row:06d}" for row in rows),
        labels=np.array([classes.index(kinds[label]) for label in labels], dtype=np.int64),
        classes=classes,
        sites=tuple(f"scanner-{scanner:02d}" for scanner in scanner_of),
        patients=_draw_patients(options, rng) if options.patients else None,
    )


def _draw_patients(options: PhantomOptions, rng: np.random.Generator) -> tuple[str, ...]:
    """Patient ``p`` goes to scanner ``p % scanners``; every patient has an image where there are enough of them."""
    patients = np.empty(options.images, dtype=np.int64)
    for scanner in range(options.scanners):
        rows = np.arange(scanner, options.images, options.scanners)
        members = np.arange(scanner, options.patients, options.scanners)
        extra = rng.choice(members, size=max(0, len(rows) - len(members)))
        patients[rows] = rng.permutation(np.concatenate([members, extra])[: len(rows)])
    return tuple(f"p{patient}" for patient in patients)
