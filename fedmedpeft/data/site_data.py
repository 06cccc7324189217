"""One site's share as tensors: decoded, resized, checked; what could not be read is counted."""

from __future__ import annotations

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

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass
class Split:
    """Images and labels of one split; may be empty.

    Attributes:
        images: uint8 [N, 3, S, S].
        labels: int64 [N].
        rows: int64 [N], rows of the source's table.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class SiteData:
    """All of one site.

    Attributes:
        site: its name.
        train, val, test: its splits.
        classes: class names of the whole federation, index = label.
        skipped: why images were left out -> how many; safe to report.
        notes: what to know before trusting the site's numbers; safe to report.
        details: one line per image left out, with its file name; stays at the site.
    """

    site: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = field(default=(), repr=False)


def load_site(
    source: Source, manifest: PartitionManifest, site: str, *, image_size: int, interpolation: str = "bicubic"
) -> SiteData:
    """Decode the images of ``site`` to ``image_size`` pixels square.

    The short side is scaled to ``image_size`` and the middle of the long side kept, so that shapes are not distorted.
    An image that cannot be read is left out and counted: one damaged file must not end a round.

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
    decoder = _Decoder(source, image_size, INTERPOLATIONS[interpolation], device, manifest.seed)
    train, val, test = (decoder.split(manifest.rows(site, name)) for name in SPLITS)
    if not len(train):
        planned = len(manifest.rows(site, "train"))
        raise DataError(
            f"Site '{site}' has no readable training image out of {planned}. {'; '.join(decoder.details[:3])}".strip(),
            public="The site has no readable training image.",
        )
    notes = _notes(train, val, test)
    return SiteData(site, train, val, test, source.table.classes, dict(decoder.skipped), notes, tuple(decoder.details))


def pool(sites: Sequence[SiteData], name: str = "pooled") -> SiteData:
    """All sites as one: the centralised training that a federation is compared with.

    Raises:
        DataError: no sites, or sites with different classes or image sizes.
    """
    if not sites:
        raise DataError("There are no sites to pool.")
    if len({site.classes for site in sites}) > 1 or len({site.train.images.shape[1:] for site in sites}) > 1:
        raise DataError("Sites with different classes or image sizes cannot be pooled. Load them alike.")
    train, val, test = (_join([getattr(site, split) for site in sites]) for split in SPLITS)
    skipped: Counter[str] = Counter()
    for site in sites:
        skipped.update(site.skipped)
    details = tuple(line for site in sites for line in site.details)
    return SiteData(name, train, val, test, sites[0].classes, dict(skipped), _notes(train, val, test), details)


class _Decoder:
    """Decodes rows to one size and keeps the account of what it had to leave out."""

    def __init__(
        self, source: Source, size: int, resample: Image.Resampling, device: Photometry | None, seed: int
    ) -> None:
        self.source, self.size, self.resample, self.device, self.seed = source, size, resample, device, seed
        self.skipped: Counter[str] = Counter()
        self.details: list[str] = []

    def split(self, rows: np.ndarray) -> Split:
        pixels = np.empty((len(rows), self.size, self.size, 3), dtype=np.uint8)
        kept: list[int] = []
        for row in rows.tolist():
            try:
                pixels[len(kept)] = np.asarray(self._image(row))
            except DataError as error:
                self.skipped[error.public] += 1
                self.details.append(str(error))
            else:
                kept.append(row)
        chosen = np.array(kept, dtype=np.int64)
        images = torch.from_numpy(pixels[: len(kept)]).permute(0, 3, 1, 2).contiguous()
        return Split(images, torch.from_numpy(self.source.table.labels[chosen]), chosen)

    def _image(self, row: int) -> Image.Image:
        image = ImageOps.fit(self.source.image(row), (self.size, self.size), self.resample)
        if self.device is None:
            return image
        # The noise of an image is its own, whatever else is loaded with it.
        return apply_photometry(image, self.device, np.random.default_rng([self.seed, row]))


def _join(splits: Sequence[Split]) -> Split:
    return Split(
        torch.cat([split.images for split in splits]),
        torch.cat([split.labels for split in splits]),
        np.concatenate([split.rows for split in splits]),
    )


def _notes(train: Split, val: Split, test: Split) -> tuple[str, ...]:
    notes = []
    if len(np.unique(train.labels.numpy())) == 1:
        notes.append("The site trains on one class only.")
    notes += [f"The site has no {name} images." for name, split in (("val", val), ("test", test)) if not len(split)]
    return tuple(notes)
