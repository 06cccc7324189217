"""What stays at a site between visits: personal parts of the PEFT state, statistics of the site's images, the
optimiser's moments and, where messages hold only a part of it, the global state; and the classes that were agreed on.

Flower keeps nothing in memory between messages in deployment, and sends a simulated hospital to any process, so it is
on disk: two files of tensors per site and run (after the last visit, and before it), and one of classes, each replaced
as a whole. The answer to a visit lies in the same file as what stays of it: a process killed at any point has both or
neither.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.privacy.ledger import LEDGER_SUFFIX

_ANSWERED = "answered/"
_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class Answered:
    """A visit that was answered: its round, what identifies the request, and the answer as bytes."""

    round: int
    request: bytes
    reply: bytes

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            f"{_ANSWERED}round": torch.tensor(self.round),
            f"{_ANSWERED}request": torch.frombuffer(bytearray(self.request), dtype=torch.uint8),
            f"{_ANSWERED}reply": torch.frombuffer(bytearray(self.reply), dtype=torch.uint8),
        }

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> Answered | None:
        """From what lies in a file; None where that is of no visit."""
        found = {name.removeprefix(_ANSWERED): t for name, t in tensors.items() if name.startswith(_ANSWERED)}
        if not found:
            return None
        return cls(int(found["round"]), found["request"].numpy().tobytes(), found["reply"].numpy().tobytes())


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
        return _kept(_read(self._path(run)))

    def load_before(self, run: str) -> dict[str, torch.Tensor]:
        """What was kept before the last visit; empty where that was the first."""
        return _kept(_read(self._before(run)))

    def answered(self, run: str) -> tuple[Answered, ...]:
        """The last visit and the one before it, as far as they are there."""
        found = (Answered.of(_read(path)) for path in (self._path(run), self._before(run)))
        return tuple(answered for answered in found if answered)

    def classes(self, run: str) -> tuple[str, ...] | None:
        """As kept; None where they never were."""
        path = self._path(run, "classes.txt")
        return tuple(path.read_text(encoding="utf-8").split("\n")) if path.is_file() else None

    def keep_classes(self, run: str, classes: Sequence[str]) -> None:
        """Replace what was kept, atomically. No name of a class may hold a line feed."""
        if self.classes(run) != tuple(classes):
            write_atomically(self._path(run, "classes.txt"), "\n".join(classes), mode=0o600)

    def keep(self, run: str, tensors: dict[str, torch.Tensor], answered: Answered | None = None) -> None:
        """Replace what was kept, atomically: a process killed at any point leaves the old file or the new one.

        Args:
            answered: the visit that leaves this; None: the last one still (or none).
        """
        path = self._path(run)
        last = Answered.of(_read(path))
        if answered and path.is_file() and not (last and last.round == answered.round):
            # A second name of the same file, so that there is no moment without either.
            before = self._before(run)
            before.parent.mkdir(exist_ok=True)
            spare = before.with_name(f".{before.name}.part")
            spare.unlink(missing_ok=True)
            os.link(path, spare)
            spare.replace(before)
        done = answered or last
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(path, save(content | (done.tensors() if done else {})), mode=0o600)

    def forget(self, run: str) -> None:
        """What was kept of ``run``, where another run of the same name begins."""
        self._before(run).unlink(missing_ok=True)
        self._path(run).unlink(missing_ok=True)

    def ledger(self, run: str, directory: str) -> Path:
        """Where the site's privacy ledger lies: in ``directory`` for all runs; where that is empty, with the run."""
        if directory:
            return Path(directory).expanduser().absolute() / f"{self.site}{LEDGER_SUFFIX}"
        return self._path(run, LEDGER_SUFFIX.removeprefix("."))

    def _before(self, run: str) -> Path:
        return self._path(run).parent / "before" / self._path(run).name

    def _path(self, run: str, suffix: str = "safetensors") -> Path:
        return self.directory / run / "sites" / f"{self.site}.{suffix}"


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        return {}
    try:
        return load_file(path)
    except SafetensorError as error:
        _log.error("'%s' is damaged (%s). Restore it; or delete it, and the site begins the run anew.", path, error)
        raise SiteError(Refusal.STATE, "what it kept of the run is damaged; its log says how to mend that") from error


def _kept(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_ANSWERED)}
