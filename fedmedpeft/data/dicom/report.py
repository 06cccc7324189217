"""What an import did, in numbers: no name of a file, no tag's value, nothing about one patient."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom.image_folder import PRIVATE_FILE, ImageFolder

_FILE = "report.json"


@dataclass
class ImportReport:
    """Counts of files (``seen`` = ``imported`` + ``kept`` + all of ``skipped``), and of what is in the folder now.

    Attributes:
        imported: files whose pictures were written by this call; ``kept``: those that were here already.
        skipped: files by reason.
        notes: pictures or files by what should be known about them.
        unused_labels: rows of the table of labels that no image asked for.
    """

    seen: int = 0
    imported: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    unused_labels: int = 0
    images: int = 0
    patients: int = 0
    largest_patient: int = 0
    labels: dict[str, int] = field(default_factory=dict)

    def count_folder(self, folder: ImageFolder) -> None:
        """Fill in what is there now, of this call and earlier ones."""
        labels: Counter[str] = Counter()
        patients: Counter[str] = Counter()
        for row in folder.rows.values():
            labels[row.label] += len(row.files)
            patients[row.patient] += len(row.files)
        self.images, self.patients = sum(labels.values()), len(patients)
        self.largest_patient, self.labels = max(patients.values(), default=0), dict(sorted(labels.items()))

    def to_json(self) -> dict[str, Any]:
        return {
            "files": {"seen": self.seen, "imported": self.imported, "kept": self.kept, "skipped": self.skipped.total()},
            "skipped": dict(self.skipped.most_common()),
            "notes": dict(self.notes.most_common()),
            "unused-labels": self.unused_labels,
            "images": self.images,
            "patients": self.patients,
            "images-of-largest-patient": self.largest_patient,
            "labels": self.labels,
        }


def write_report(folder: Path, settings: dict[str, str], report: ImportReport | None) -> None:
    """``report.json`` beside the manifest; ``None`` while the import has not ended."""
    content: dict[str, Any] = {"settings": settings, "ended": report is not None}
    content |= report.to_json() if report else {}
    write_atomically(folder / _FILE, json.dumps(content, indent=2) + "\n", mode=PRIVATE_FILE)


def began_with(folder: Path) -> dict[str, str]:
    """The settings of the import that made ``folder``; empty for a new one.

    Raises:
        ConfigError: it has a manifest, and its report is damaged or gone.
    """
    path = folder / _FILE
    if not path.exists() and not (folder / "manifest.csv").exists():
        return {}
    try:
        return {str(key): str(value) for key, value in json.loads(path.read_text(encoding="utf-8"))["settings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"--out '{folder}' has no readable {_FILE}, so it is not known how its images were made. "
            "Import into a new folder."
        ) from error
