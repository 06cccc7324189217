"""Checkpoints of a run: each there as a whole or not at all, known by checksums, the last two kept.

``round-0001.safetensors`` is the global PEFT state after round 1, which anything can read.
``round-0001-strategy.safetensors`` is what the server's optimiser remembers, where it has a memory.
``round-0001.json``, written last, holds all else and the checksums of both: without it, or where one differs, there is
no such checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.exchange import PeftState
from server.run_state import round_of, rounds_saved
from server.sealed_file import DamagedFile, read_sealed, write_sealed

Arrays = Mapping[str, NDArray[Any]]

_FORMAT = 1
"""Raised whenever the meaning of what is written changes."""
_KEPT = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read.

    Args:
        round: after which it was written; 0: after joining.
        progress: as given, plain values.
        state: tensors of the global state, by name.
        memory: of the strategy.
    """

    round: int
    progress: Any
    state: Arrays
    memory: Arrays


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in ``folder``."""

    folder: Path

    def write(self, round_: int, state: PeftState, memory: Arrays, progress: Any) -> None:
        """Write the checkpoint after ``round_`` and remove those before the last two.

        Args:
            memory: arrays of the strategy; may be empty.
            progress: plain values: whatever JSON can hold.
        """
        stem, sums = f"round-{round_:04d}", {}
        # One entry only: safetensors writes several in no fixed order, and equal states are to be equal files.
        contents = {f"{stem}.safetensors": save(state.tensors(), {"state_hash": state.hash()})}
        if memory:
            contents[f"{stem}-strategy.safetensors"] = save({k: np.ascontiguousarray(v) for k, v in memory.items()})
        for name, content in contents.items():
            write_atomically(self.folder / name, content)
            sums[name] = hashlib.sha256(content).hexdigest()
        rest = {"format": _FORMAT, "round": round_, "files": sums, "progress": progress}
        write_sealed(self.folder / f"{stem}.json", rest)
        self._prune()

    def newest(self, say: Callable[[str], None]) -> Saved | None:
        """The newest checkpoint that is whole; None where the run was cut off before the first one.

        Args:
            say: told of each that is not.

        Raises:
            ConfigError: there were some, and none is whole.
        """
        damaged = []
        for round_ in self.rounds():
            try:
                return self._read(round_)
            except DamagedFile as reason:
                damaged.append(f"round-{round_:04d}: {reason}")
                say(f"WARNING: checkpoint {damaged[-1]}. It is not used; looking for the one before.")
        # The state of round 0 alone is what a server leaves that was cut off while it wrote its first checkpoint.
        if damaged or any(round_of(path) for path in self.folder.glob("round-*")):
            reasons = "; ".join(damaged) or "the .json files are gone"
            raise ConfigError(
                f"No checkpoint in '{self.folder}' is whole ({reasons}), so the run cannot go on. Restore the "
                "directory from a backup, or start a new run: leave resume empty."
            )
        return None

    def rounds(self) -> list[int]:
        """After which rounds there are checkpoints, whole or not; the last one first."""
        return rounds_saved(self.folder)

    def _read(self, round_: int) -> Saved:
        stem = f"round-{round_:04d}"
        content = read_sealed(self.folder / f"{stem}.json")
        if (content["format"], content["round"]) != (_FORMAT, round_):
            raise DamagedFile(f"it is of format {content['format']} and round {content['round']}")
        arrays = {name: self._arrays(name, sha256) for name, sha256 in content["files"].items()}
        memory = arrays.get(f"{stem}-strategy.safetensors", {})
        return Saved(round_, content["progress"], arrays[f"{stem}.safetensors"], memory)

    def _arrays(self, name: str, sha256: str) -> Arrays:
        try:
            content = (self.folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise DamagedFile(f"{name} is not what was written, its checksum differs")
            return load(content)
        except (OSError, SafetensorError) as error:
            raise DamagedFile(f"{name} cannot be read, {type(error).__name__}") from None

    def _prune(self) -> None:
        """The ``.json`` first: without it the rest is no checkpoint."""
        old = self.rounds()[_KEPT:]
        for path in sorted(self.folder.glob("round-*"), key=lambda path: path.suffix != ".json"):
            if round_of(path) in old:
                path.unlink()
