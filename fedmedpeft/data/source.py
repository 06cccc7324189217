"""What a source of labelled images is: a table of rows, and a way to get the image of one row."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from fedmedpeft.components import Registry, suggest
from fedmedpeft.data.errors import DataError

SPLITS = ("train", "val", "test")
ANSWER_TYPES = ("closed", "open")
_SPLIT_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image of a source, or per question or caption about one; no pixels.

    Attributes:
        keys: id of each row within its source (a relative file path, ``train/12``), unique.
        labels: int64 [N], index into ``classes``.
        classes: class names, sorted.
        splits: ``train``, ``val`` or ``test`` per row; None where the source does not say.
        sites: name of the site each row comes from, or None.
        patients: id of the patient each row shows, or None (then every image stands for itself).
        texts: what each row says or asks (a caption, a question), or None.
        answers: what is right for each row, normalised, or None. ``labels`` are then strata (a kind of question), which
            partitioners may skew, and not what is learnt.
        answer_types: ``closed`` (yes or no, or a choice that the question gives) or ``open`` per row, or None.
        images: id of each row's image, which several rows may share; None: each row has its own.
        splits_share_patients: ``splits`` are a published set's own and knowingly put one patient (or image) in several.

    Raises:
        DataError: lengths differ, a key appears twice, a label has no class, a split or answer type is unknown, a text
            or an answer is empty, or an image is of two patients.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    sites: tuple[str, ...] | None = None
    patients: tuple[str, ...] | None = None
    texts: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    answer_types: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    splits_share_patients: bool = False

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        if not self.keys:
            raise DataError("The source has no images. Check its path and, for a manifest, its rows.")
        self._check_lengths()
        if len(set(self.keys)) != len(self.keys):
            twice, times = Counter(self.keys).most_common(1)[0]
            raise DataError(f"'{twice}' appears {times} times in the source. Every image needs one row.")
        if list(self.classes) != sorted(set(self.classes)):
            raise DataError(f"Class names must be sorted and differ from one another: {', '.join(self.classes)}.")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            span = f"{labels.min()}..{labels.max()}"
            raise DataError(f"Labels lie in {span}; {len(self.classes)} classes allow 0..{len(self.classes) - 1}.")
        for name in set(self.splits or ()) - set(SPLITS):
            raise DataError(f"'{name}' is not a split.{suggest(name, SPLITS)} Known: {', '.join(SPLITS)}.")
        self._check_words()
        self._check_images()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def unit(self) -> str:
        """What a row is, for messages: ``images``, ``texts`` or ``questions``."""
        if self.texts is None:
            return "images"
        return "texts" if self.answers is None else "questions"

    def content_hash(self) -> str:
        """SHA-256 (hex) over all columns: equal tables have equal hashes, whatever machine they were read on."""
        columns: list[object] = [self.keys, self.labels.tolist(), self.classes, self.splits, self.sites, self.patients]
        named = {
            "texts": self.texts,
            "answers": self.answers,
            "answer_types": self.answer_types,
            "images": self.images,
            "splits_share_patients": self.splits_share_patients or None,
        }
        later = {name: column for name, column in named.items() if column is not None}
        # Tables of images alone hash as they did before there were texts: partitions made then still fit.
        columns += [later] if later else []
        return hashlib.sha256(json.dumps(columns, separators=(",", ":")).encode()).hexdigest()

    def first_rows(self) -> np.ndarray:
        """For every row the first row that shows the same image, int64 [N]; 0, 1, 2, ... where each has its own."""
        if self.images is None:
            return np.arange(len(self))
        first: dict[str, int] = {}
        return np.array([first.setdefault(image, row) for row, image in enumerate(self.images)], dtype=np.int64)

    def _check_lengths(self) -> None:
        columns = {
            **{"label": self.labels, "split": self.splits, "site": self.sites, "patient": self.patients},
            **{"text": self.texts, "answer": self.answers, "answer type": self.answer_types, "image": self.images},
        }
        for name, column in columns.items():
            if column is not None and len(column) != len(self.keys):
                raise DataError(f"The {name} column has {len(column)} values for {len(self.keys)} rows.")

    def _check_words(self) -> None:
        for name, column in (("question or text", self.texts), ("answer", self.answers)):
            for key, words in zip(self.keys, column or (), strict=False):
                if not words.strip():
                    raise DataError(
                        f"The {name} of row '{key}' is empty. Fill it, or leave the row out.",
                        public="A question, text or answer is empty.",
                    )
        for name in set(self.answer_types or ()) - set(ANSWER_TYPES):
            known = ", ".join(ANSWER_TYPES)
            raise DataError(f"'{name}' is not an answer type.{suggest(name, ANSWER_TYPES)} Known: {known}.")

    def _check_images(self) -> None:
        if self.images is None or self.patients is None:
            return
        owner: dict[str, str] = {}
        for image, patient in zip(self.images, self.patients, strict=True):
            if owner.setdefault(image, patient) != patient:
                raise DataError(f"Image '{image}' is of two patients, '{owner[image]}' and '{patient}'. Correct one.")


class Source(Protocol):
    """Labelled images from one place.

    Attributes:
        name: what it is, without paths: it is written into partition manifests, which may be shared.
        synthetic: whether the images are generated rather than recorded.
        description: one line for people; it says so where the images are synthetic.
        table: its rows.
    """

    name: str
    synthetic: bool
    description: str
    table: ImageTable

    def image(self, row: int) -> Image.Image:
        """The image of ``row``, RGB, 8 bit a channel.

        Raises:
            DataError: the image is missing, truncated, not finite or of an unknown kind.
        """
        ...


SOURCES: Registry[Source] = Registry("data source")


def build_source(spec: str) -> Source:
    """Make a source from its text, e.g. ``phantoms(images=600, seed=1)``.

    Raises:
        ConfigError: unknown source or option.
        DataError: the data it points to cannot be used.
    """
    return SOURCES.build(spec)


def canonical_split(name: str) -> str:
    """``train``, ``val`` or ``test`` for their common spellings; any other name comes back in lower case."""
    name = name.strip().lower()
    return _SPLIT_ALIASES.get(name, name)


def index_labels(names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class names per row to (labels int64 [N], sorted classes)."""
    classes = tuple(sorted(set(names)))
    index = {name: label for label, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64), classes


def describe(table: ImageTable, origin: str) -> str:
    """One line: how many images of what, from where; the questions or captions about them where there are any."""
    parts = [f"{len(np.unique(table.first_rows())):,} images"]
    if table.texts is not None:
        parts.insert(0, f"{len(table):,} {table.unit}")
    parts.append(f"{len(table.classes)} {'classes' if table.answers is None else 'strata'}")
    for noun, column in (("sites", table.sites), ("patients", table.patients)):
        if column is not None:
            parts.append(f"{len(set(column)):,} {noun}")
    return f"{', '.join(parts)}, from {origin}"
