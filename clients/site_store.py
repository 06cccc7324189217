"""What stays at a site between visits: personal parts of the PEFT state, statistics of the site's images, the
optimiser's moments and, where messages hold only a part of it, the global state; and the classes that were agreed on.

Flower keeps nothing in memory between messages in deployment, and sends a simulated hospital to any process, so it is
on disk: a file of tensors per site and run, and one of classes, each replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.privacy.ledger import LEDGER_SUFFIX


@dataclass(frozen=True)
class SiteStore:
    """Named tensors of one site, per run. ``directory`` and ``site`` say where: ``<directory>/<run>/sites/<site>``."""

    directory: Path
    site: str

    @classmethod
    def below(cls, runs_dir: str, site: str) -> SiteStore:
        return cls(Path(runs_dir).absolute(), site)

    def load(self, run: str) -> dict[str, torch.Tensor]:
        """What was kept last; empty at the first visit."""
        path = self._path(run)
        return load_file(path) if path.is_file() else {}

    def classes(self, run: str) -> tuple[str, ...] | None:
        """As kept; None where they never were."""
        path = self._path(run, "classes.txt")
        return tuple(path.read_text(encoding="utf-8").split("\n")) if path.is_file() else None

    def keep_classes(self, run: str, classes: Sequence[str]) -> None:
        """Replace what was kept, atomically. No name of a class may hold a line feed."""
        if self.classes(run) != tuple(classes):
            write_atomically(self._path(run, "classes.txt"), "\n".join(classes), mode=0o600)

    def keep(self, run: str, tensors: dict[str, torch.Tensor]) -> None:
        """Replace what was kept, atomically: a process killed at any point leaves the old file or the new one."""
        detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(self._path(run), save(detached), mode=0o600)

    def ledger(self, run: str, directory: str) -> Path:
        """Where the site's privacy ledger lies: in ``directory`` for all runs; where that is empty, with the run."""
        if directory:
            return Path(directory).expanduser().absolute() / f"{self.site}{LEDGER_SUFFIX}"
        return self._path(run, LEDGER_SUFFIX.removeprefix("."))

    def _path(self, run: str, suffix: str = "safetensors") -> Path:
        return self.directory / run / "sites" / f"{self.site}.{suffix}"
