"""MedMNIST: a local npz file, or a set by name through the optional ``medmnist`` package.

Source: Yang et al., "MedMNIST v2", Scientific Data 10:41 (2023).
"""

from __future__ import annotations

import importlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from fedmedpeft.components import Options
from fedmedpeft.data.decode import from_pixels
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES, SPLITS, ImageTable, describe
from fedmedpeft.data.sources.medmnist_classes import CLASS_NAMES

# What numpy and zipfile raise for files that are cut short, damaged or something else.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


class MedMnistOptions(Options):
    """Options of ``medmnist``."""

    path: str = Field("", description="a MedMNIST npz file")
    name: str = Field("", description="instead of path: a set to download with the medmnist package")
    size: int = Field(28, description="pixels a side of the set to download")
    root: str = Field("", description="folder to download into; empty: ~/.medmnist")

    @model_validator(mode="after")
    def _one_of_both(self) -> MedMnistOptions:
        if bool(self.path) == bool(self.name):
            raise ValueError("give either path=/data/breastmnist.npz or name=breastmnist")
        return self


@SOURCES.register("medmnist", MedMnistOptions)
class MedMnist:
    """A single-label, two-dimensional MedMNIST set with its own train, val and test splits.

    Class names come from the file's name; a file with another name gets ``class-00``, ``class-01``, ...

    Raises:
        DataError: the file is missing or is not a MedMNIST set of this kind, or it cannot be downloaded.

    Example: ``medmnist(path=/data/breastmnist.npz)``
    """

    synthetic = False

    def __init__(self, options: MedMnistOptions) -> None:
        path = Path(options.path).expanduser().absolute() if options.path else _download(options)
        arrays = _read(path)
        flag = path.stem.lower().split("_")[0]
        self.name = f"medmnist:{flag}"
        self._pixels = [image for split in SPLITS for image in arrays[f"{split}_images"]]
        self.table = _to_table(arrays, CLASS_NAMES.get(flag), path)
        self.description = describe(self.table, f"MedMNIST ({flag})")

    def image(self, row: int) -> Image.Image:
        try:
            return from_pixels(self._pixels[row])
        except DataError as error:
            raise DataError(f"Image '{self.table.keys[row]}': {error}", public=error.public) from None


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"MedMNIST file '{path}' does not exist. Check path=.")
    wanted = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in wanted}
    except _UNREADABLE as error:
        raise DataError(
            f"'{path}' is not a readable MedMNIST npz file ({error}). Expected arrays: {', '.join(wanted)}."
        ) from error
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
            raise DataError(f"'{path}': {split}_images has shape {images.shape}; only two-dimensional sets are read.")
        if labels.size != len(images) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"'{path}': {split}_labels has shape {labels.shape} and type {labels.dtype} for {len(images)} images; "
                "expected one whole number per image (multi-label sets are not classification here)."
            )
    return arrays


def _to_table(arrays: dict[str, np.ndarray], names: tuple[str, ...] | None, path: Path) -> ImageTable:
    keys = [f"{split}/{i}" for split in SPLITS for i in range(len(arrays[f"{split}_images"]))]
    splits = [split for split in SPLITS for _ in arrays[f"{split}_images"]]
    numbers = np.concatenate([arrays[f"{split}_labels"].ravel() for split in SPLITS]).astype(np.int64)
    if not keys or numbers.min() < 0:
        raise DataError(f"'{path}' has no images, or labels below 0.")
    if names is None or numbers.max() >= len(names):
        names = tuple(f"class-{number:02d}" for number in range(int(numbers.max()) + 1))
    # Tables keep their classes sorted; the published numbering is not always alphabetical.
    classes = tuple(sorted(names))
    relabel = np.array([classes.index(name) for name in names], dtype=np.int64)
    return ImageTable(tuple(keys), relabel[numbers], classes, splits=tuple(splits))


def _download(options: MedMnistOptions) -> Path:
    """Let the ``medmnist`` package fetch and verify the file; the path it lies at."""
    try:
        package = importlib.import_module("medmnist")
    except ImportError as error:
        raise DataError(
            f"medmnist(name={options.name}) needs the optional package 'medmnist' ({error}). "
            "Install it, or give a file: medmnist(path=/data/breastmnist.npz)."
        ) from error
    info = package.INFO.get(options.name)
    if info is None:
        raise DataError(f"The medmnist package has no set '{options.name}'. Known: {', '.join(sorted(package.INFO))}.")
    root = Path(options.root).expanduser().absolute() if options.root else Path.home() / ".medmnist"
    root.mkdir(parents=True, exist_ok=True)
    try:
        getattr(package, info["python_class"])(split="train", download=True, root=str(root), size=options.size)
    except Exception as error:  # The package raises bare errors of several kinds for network, checksum and size.
        raise DataError(
            f"'{options.name}' cannot be downloaded into '{root}' ({error}). "
            "Fetch the npz file elsewhere and give its path: medmnist(path=...)."
        ) from error
    return root / (f"{options.name}.npz" if options.size == 28 else f"{options.name}_{options.size}.npz")
