"""One site's share as tensors: decoded, resized, checked; what could not be read is counted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageOps

from fedmedpeft.components import ConfigError, suggest
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition_manifest import PartitionManifest
from fedmedpeft.data.photometry import Photometry, apply_photometry
from fedmedpeft.data.source import SPLITS, Source
from fedmedpeft.data.split import Split, join
from fedmedpeft.data.text_reader import TextReader

__all__ = ["SHARED_IMAGES", "SiteData", "Split", "load_site", "pool"]

SHARED_IMAGES = "Test questions are about images that are also in train: the published split is by question."
"""Note of a site whose test images are not new to it."""
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass
class SiteData:
    """All of one site.

    Attributes:
        site: its name.
        train, val, test: its splits.
        classes: class names of the whole federation, index = label.
        skipped: why images were left out -> how many rows (images, questions) that cost; safe to report.
        notes: what to know before trusting the site's numbers; safe to report.
        details: one line per image left out, with its file name; stays at the site.
        train_hash: SHA-256 of what the training rows hold (pixels as decoded, labels, texts, patients), in any order.
    """

    site: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = field(default=(), repr=False)
    train_hash: str = ""


def load_site(
    source: Source,
    manifest: PartitionManifest,
    site: str,
    *,
    image_size: int,
    interpolation: str = "bicubic",
    texts: TextReader | None = None,
) -> SiteData:
    """Decode the images of ``site`` to ``image_size`` pixels square, and read its texts where ``texts`` is given.

    The short side is scaled to ``image_size`` and the middle of the long side kept, so that shapes are not distorted.
    An image that several rows share is decoded once. One that cannot be read is left out with all rows about it, and
    counted: one damaged file must not end a round.

    Raises:
        ConfigError: unknown interpolation, or an image size below 1.
        DataError: the partition is of other data or has no such site, or nothing is left to train on.
    """
    if interpolation not in INTERPOLATIONS:
        near, known = suggest(interpolation, INTERPOLATIONS), ", ".join(INTERPOLATIONS)
        raise ConfigError(f"There is no interpolation '{interpolation}'.{near} Known: {known}.")
    if image_size < 1:
        raise ConfigError(f"image_size={image_size} must be at least 1.")
    manifest.check(source.table)
    device = manifest.shifts[manifest.site_index(site)] if manifest.shifts is not None else None
    loader = _Loader(source, image_size, INTERPOLATIONS[interpolation], device, manifest.seed, texts)
    train, val, test = (loader.split(manifest.rows(site, name)) for name in SPLITS)
    if not len(train):
        planned = len(manifest.rows(site, "train"))
        raise DataError(
            f"Site '{site}' has no readable training image out of {planned}. {'; '.join(loader.details[:3])}".strip(),
            public="The site has no readable training image.",
        )
    notes = _notes(train, val, test, source.table.classes)
    if np.isin(loader.shown(test), loader.shown(train)).any():
        notes = (*notes, SHARED_IMAGES)
    return SiteData(
        site,
        train,
        val,
        test,
        source.table.classes,
        dict(loader.skipped),
        notes,
        tuple(loader.details),
        loader.content_hash(train),
    )


def pool(sites: Sequence[SiteData], name: str = "pooled") -> SiteData:
    """All sites as one: the centralised training that a federation is compared with.

    Raises:
        DataError: no sites, or sites with different classes or image sizes, or only some with texts.
    """
    if not sites:
        raise DataError("There are no sites to pool.")
    if len({site.classes for site in sites}) > 1 or len({site.train.images.shape[1:] for site in sites}) > 1:
        raise DataError("Sites with different classes or image sizes cannot be pooled. Load them alike.")
    train, val, test = (join([getattr(site, split) for site in sites]) for split in SPLITS)
    skipped: Counter[str] = Counter()
    for site in sites:
        skipped.update(site.skipped)
    details = tuple(line for site in sites for line in site.details)
    notes = _notes(train, val, test, sites[0].classes)
    if any(SHARED_IMAGES in site.notes for site in sites):
        notes = (*notes, SHARED_IMAGES)
    return SiteData(name, train, val, test, sites[0].classes, dict(skipped), notes, details)


class _Loader:
    """Brings rows to tensors of one size and keeps the account of what it had to leave out."""

    def __init__(
        self,
        source: Source,
        size: int,
        resample: Image.Resampling,
        device: Photometry | None,
        seed: int,
        texts: TextReader | None,
    ) -> None:
        self.source, self.size, self.resample, self.device, self.seed = source, size, resample, device, seed
        self.texts = texts
        self.first_rows = source.table.first_rows()
        self.skipped: Counter[str] = Counter()
        self.details: list[str] = []
        self.digests: dict[int, str] = {}
        names = dict.fromkeys(source.table.patients or ())
        self.patients = {patient: number for number, patient in enumerate(names)}

    def split(self, rows: np.ndarray) -> Split:
        images, places = self._images(Counter(self.first_rows[rows].tolist()))
        chosen = np.array([row for row in rows.tolist() if int(self.first_rows[row]) in places], dtype=np.int64)
        table = self.source.table
        questions = _of(table.texts, chosen)
        text, knowledge = self.texts.read(questions) if self.texts and questions is not None else (None, None)
        return Split(
            images,
            torch.from_numpy(table.labels[chosen]),
            chosen,
            torch.tensor([places[int(first)] for first in self.first_rows[chosen]], dtype=torch.int64),
            text=text,
            knowledge=knowledge,
            questions=questions,
            answers=_of(table.answers, chosen),
            answer_types=_of(table.answer_types, chosen),
            patient_of=self._patient_of(chosen),
        )

    def content_hash(self, split: Split) -> str:
        """Of the rows of ``split``, whatever their order; file names and the size that images are brought to are not
        in it, since neither makes other data of them."""
        table = self.source.table
        columns = (table.patients, table.texts, table.answers)
        rows = sorted(
            json.dumps(
                [
                    self.digests[int(self.first_rows[row])],
                    table.classes[int(table.labels[row])],
                    *(column[row] if column else None for column in columns),
                ]
            )
            for row in split.rows
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def _patient_of(self, rows: np.ndarray) -> torch.Tensor | None:
        patients = self.source.table.patients
        if patients is None:
            return None
        return torch.tensor([self.patients[patients[row]] for row in rows], dtype=torch.int64)

    def shown(self, split: Split) -> np.ndarray:
        """The image of each row of ``split``, as the first row of the table that shows it, int64 [N]."""
        first: np.ndarray = self.first_rows[split.rows]
        return first

    def _images(self, wanted: Counter[int]) -> tuple[torch.Tensor, dict[int, int]]:
        """Images by first row (with the rows about each) to uint8 [U, 3, S, S], and the place of each there."""
        pixels = np.empty((len(wanted), self.size, self.size, 3), dtype=np.uint8)
        places: dict[int, int] = {}
        for first, rows in wanted.items():
            try:
                pixels[len(places)] = np.asarray(self._image(first))
            except DataError as error:
                self.skipped[error.public] += rows
                self.details.append(str(error) if rows == 1 else f"{error} ({rows} rows are about it.)")
            else:
                places[first] = len(places)
        return torch.from_numpy(pixels[: len(places)]).permute(0, 3, 1, 2).contiguous(), places

    def _image(self, row: int) -> Image.Image:
        decoded = self.source.image(row)
        self.digests[row] = hashlib.sha256(f"{decoded.mode} {decoded.size} ".encode() + decoded.tobytes()).hexdigest()
        image = ImageOps.fit(decoded, (self.size, self.size), self.resample)
        if self.device is None:
            return image
        # The noise of an image is its own, whatever else is loaded with it.
        return apply_photometry(image, self.device, np.random.default_rng([self.seed, row]))


def _of(column: tuple[str, ...] | None, rows: np.ndarray) -> tuple[str, ...] | None:
    return tuple(column[row] for row in rows) if column is not None else None


def _notes(train: Split, val: Split, test: Split, classes: tuple[str, ...]) -> tuple[str, ...]:
    notes = []
    # Strata of questions, and the one class of captions, are nothing that a model could fail to learn.
    if train.answers is None and len(classes) > 1 and len(np.unique(train.labels.numpy())) == 1:
        notes.append("The site trains on one class only.")
    notes += [f"The site has no {name} data." for name, split in (("val", val), ("test", test)) if not len(split)]
    return tuple(notes)
