"""A vocabulary of answers: what a site may name of its own, what a list must look like, and targets over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.data.answers import normalise_answer

LONGEST = 200
"""Characters of an answer. A longer text is a report, and no class."""
MOST = 20_000
"""Answers of a run: a head has a row of numbers for each."""
UNKNOWN = -1


def frequent_answers(answers: Iterable[str], least: int) -> dict[str, int]:
    """How often each answer occurs, for those that occur at least ``least`` times.

    This is what a site tells the federation of its training answers before anything is trained. An answer that only
    one patient's record gives may say who that patient is, so rare ones are never named, and of none is it said which
    image or question it belongs to.

    Args:
        answers: normalised, one for each question; what could be no class is left out.
        least: smallest number that is told.
    """
    counts = Counter(answer for answer in answers if usable(answer))
    return {answer: count for answer, count in sorted(counts.items()) if count >= least}


def usable(answer: str) -> bool:
    """Whether this can be a class: normalised, printable, neither empty nor longer than :data:`LONGEST`."""
    return 0 < len(answer) <= LONGEST and answer.isprintable() and normalise_answer(answer) == answer


def check_vocabulary(answers: Sequence[str]) -> None:
    """Raises ValueError, with half a sentence, where these cannot be the classes of a run; it names no answer."""
    if not 0 < len(answers) <= MOST:
        raise ValueError(f"has {len(answers):,} answers, expected 1 to {MOST:,}")
    if not all(map(usable, answers)):
        raise ValueError(f"has one that is empty, longer than {LONGEST} characters, unprintable or not normalised")
    if len(set(answers)) != len(answers):
        raise ValueError("has an answer twice")


def read_answers(path: Path) -> tuple[str, ...]:
    """The answers in a text file, one a line, normalised, in their order; a repeated one counts once.

    Raises:
        ConfigError: the file cannot be read, or what is in it cannot be the classes of a run.
    """
    where = f"task='vqa(answers={path})'"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where}: the file cannot be read ({error}). Expected a UTF-8 text file with one answer a line, at the "
            "server and at every site."
        ) from None
    answers = tuple(dict.fromkeys(filter(None, map(normalise_answer, lines))))
    try:
        check_vocabulary(answers)
    except ValueError as error:
        raise ConfigError(f"{where}: the list {error}.") from None
    return answers


def soft_targets(ids: torch.Tensor, scores: torch.Tensor, answers: int) -> torch.Tensor:
    """Targets [B, C]: for each row its labels' scores, and 0 elsewhere.

    Args:
        ids: int64 [B, K], label of each answer to a question, or :data:`UNKNOWN`; a label occurs once in a row.
        scores: [B, K], how right each is, from 0 to 1.
        answers: number of labels C.
    """
    targets = torch.zeros(len(ids), answers + 1, dtype=scores.dtype, device=scores.device)
    # What is unknown goes to a column of its own, which is cut off.
    return targets.scatter_(1, ids.where(ids != UNKNOWN, answers), scores)[:, :answers]
