"""Training that does not fit into memory: smaller parts of a batch, one after the other, whose gradients add up."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

_log = logging.getLogger("fedmedpeft.site")
# How torch's allocator for the CPU words it; on a GPU it has a class of its own.
_ON_CPU = ("can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory, of a GPU or of the machine, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ON_CPU)


class PhysicalBatch:
    """How many rows go through the network at once: as many as asked for, until memory says otherwise."""

    def __init__(self) -> None:
        self._most: int | None = None

    def fit(
        self, rows: torch.Tensor, compute: Callable[[torch.Tensor, float], float], start: Callable[[], None]
    ) -> float:
        """The sum of ``compute`` over parts of ``rows``; all of them at once where they fit.

        Args:
            rows: int64 [B].
            compute: part of the rows and its share of them -> a value; it may run out of memory.
            start: called before each try.

        Raises:
            RuntimeError, MemoryError: one row alone does not fit either.
        """
        while True:
            start()
            try:
                parts = rows.split(self._most or len(rows))
                return sum(compute(part, len(part) / len(rows)) for part in parts)
            except (RuntimeError, MemoryError) as error:
                most = min(self._most or len(rows), len(rows))
                if not out_of_memory(error) or most == 1:
                    raise
                self._most = (most + 1) // 2
            _log.warning("Out of memory with %d images at once: trying %d.", most, self._most)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
