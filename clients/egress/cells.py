"""How many samples each of a task's counts tells of: what a site compares with its smallest cell.

A count that is small says something of few patients. Where counts come as totals, what is left over is as telling as
what is counted (all but three right is: three wrong), so the cells are the groups that a split falls into.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fedmedpeft.tasks import Task

_THOUSANDTHS = 1000
_DEPTHS = 3


def cells(task: Task, counts: Sequence[int]) -> list[int] | None:
    """Numbers of samples that ``counts`` of one split give away; None for a task that this module does not know."""
    read = _CELLS.get(task.name)
    return None if read is None else read(counts)


def _classification(counts: Sequence[int]) -> list[int]:
    """A confusion matrix: every number is one of samples."""
    return list(counts)


def _vqa(counts: Sequence[int]) -> list[int]:
    """Closed and open questions: right, answerable but wrong, and not answerable."""
    found = []
    for score, questions, answerable in (counts[:3], counts[3:]):
        right = -(-score // _THOUSANDTHS)
        found += [right, answerable - right, questions - answerable]
    return found


def _retrieval(counts: Sequence[int]) -> list[int]:
    """Texts, then images: found at the first depth, only at a later one, or at none."""
    found = []
    for total, *hits in (counts[: 1 + _DEPTHS], counts[1 + _DEPTHS : 2 + 2 * _DEPTHS]):
        found += [after - before for before, after in zip([0, *hits], [*hits, total], strict=True)]
    return found


def _generation(counts: Sequence[int]) -> list[int]:
    """Questions that were not answered, and of closed, open and other ones those right and wrong.

    The rest (overlaps in thousandths, words and their n-grams) counts no samples.
    """
    asked, groups = counts[0], [counts[place : place + 2] for place in (1, 3, 5)]
    found = [asked - sum(answered for answered, _ in groups)]
    for answered, right in groups:
        found += [right, answered - right]
    return found


_CELLS: Mapping[str, Callable[[Sequence[int]], list[int]]] = {
    "classification": _classification,
    "vqa": _vqa,
    "retrieval": _retrieval,
    "generation": _generation,
}
