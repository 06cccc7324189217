"""Hospitals with files on their disks, whose names and patients would be known again wherever they turned up.

SYNTHETIC: the images are phantoms; no person, and no number of one, is in them.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from fedmedpeft.backbones.checkpoint_files import embedded_directory
from fedmedpeft.config import RunConfig
from fedmedpeft.data import Source, build_source
from simulations.poc.plan import RUN, Plan

NAMES = ("aachen", "basel", "celle", "dresden", "essen")
PATIENT, ARCHIVE = "MUELLER4711", "pacs-export"
"""In every patient's number, and so in every file's name; in every hospital's data directory."""
IMAGES = 60
"""Of each hospital."""


class Faults(Plan):
    """A plan of hospitals whose data are files; nothing in it knows where they lie."""

    def config(self) -> RunConfig:
        return RunConfig.from_mapping(
            {
                "data": "manifest(path=/of/the/server.csv)",
                "rounds": self.rounds,
                "local-steps": 8,
                "batch-size": 16,
                "references": "none",
                "min-sites": 2,
                "run-name": RUN,
                "device": "cpu",
                "personalise-steps": 0,
            }
        )


def plan_of(names: tuple[str, ...], rounds: int, *, stranger: bool) -> Faults:
    """For :func:`simulations.poc.stage.set_up`; each ``site.yaml`` still lacks its data."""
    source = _phantoms()
    return Faults("none", False, source.description, source.table.classes, dict.fromkeys(names, 0), rounds, stranger)


def write_images(directory: Path, scanner: int) -> str:
    """All images of one scanner, with a table of them; how ``site.yaml`` names that."""
    source = _phantoms()
    archive = directory / ARCHIVE
    archive.mkdir(parents=True)
    with (archive / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "patient"))
        for number, row in enumerate(range(scanner, IMAGES * len(NAMES), len(NAMES))):
            patient = f"{PATIENT}-{scanner}-{number:03}"
            source.image(row).save(archive / f"{patient}.png")
            table.writerow((f"{patient}.png", source.table.classes[source.table.labels[row]], patient))
    return f"manifest(path={archive / 'labels.csv'})"


def write_other_backbone(directory: Path) -> Path:
    """The embedded backbone with one weight that is another."""
    shutil.copytree(embedded_directory(), directory)
    (directory / "fingerprint.json").unlink()
    weights = load_file(directory / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] * 1.01
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _phantoms() -> Source:
    return build_source(f"phantoms(images={IMAGES * len(NAMES)}, scanners={len(NAMES)}, size=64)")
