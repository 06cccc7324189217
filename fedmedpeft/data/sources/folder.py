"""An image folder: ``<class>/*`` or ``<split>/<class>/*``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from pydantic import Field

from fedmedpeft.components import Options
from fedmedpeft.data.decode import open_image
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES, SPLITS, ImageTable, canonical_split, describe, index_labels

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FolderOptions(Options):
    """Options of ``folder``."""

    path: str = Field(min_length=1, description="folder with <class>/ or <split>/<class>/ folders of images")


@SOURCES.register("folder", FolderOptions)
class Folder:
    """Images in folders named by their class.

    Where every folder below ``path`` is named like a split (train, val, test and their common spellings), the classes
    are one level further down. Files that are not images, by their suffix, are passed over.

    Raises:
        DataError: the folder is missing, or holds no class folder with images.

    Example: ``folder(path=/data/skin)``
    """

    synthetic = False

    def __init__(self, options: FolderOptions) -> None:
        self.name = "folder"
        self.root = Path(options.path).expanduser().absolute()
        if not self.root.is_dir():
            raise DataError(f"Image folder '{self.root}' does not exist or is not a folder. Check path=.")
        self.table = _scan(self.root)
        self.description = describe(self.table, f"the image folder {self.root.name}")

    def image(self, row: int) -> Image.Image:
        return open_image(self.root / self.table.keys[row])


def _scan(root: Path) -> ImageTable:
    top = _folders(root)
    has_splits = bool(top) and all(canonical_split(folder.name) in SPLITS for folder in top)
    keys: list[str] = []
    names: list[str] = []
    splits: list[str] = []
    for class_folder in [child for folder in top for child in _folders(folder)] if has_splits else top:
        for file in sorted(class_folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
                keys.append(file.relative_to(root).as_posix())
                names.append(class_folder.name)
                splits.append(canonical_split(class_folder.parent.name))
    if not keys:
        kinds = ", ".join(SUFFIXES)
        raise DataError(f"'{root}' has no images in <class>/ or <split>/<class>/ folders. Suffixes read: {kinds}.")
    labels, classes = index_labels(names)
    return ImageTable(tuple(keys), labels, classes, splits=tuple(splits) if has_splits else None)


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
