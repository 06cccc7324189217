"""Written answers against right ones: exact match, BLEU and ROUGE-L, as counts that may be added up over sites."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from fedmedpeft.data.answers import normalise_answer

METRICS = ("exact_match", "closed_exact_match", "open_exact_match", "bleu", "rouge_l", "evaluated")
"""``nan`` where one is undefined on the data at hand."""

_KINDS = ("closed", "open", "untold")
_ORDERS = 4
_THOUSANDTHS = 1000
# Words are added up over sites, so a site that could claim any number of them would drown all others in BLEU. Both
# limits are far above what is ever seen: a token of several signs is as many words, a report has hundreds.
_WORDS_OF_TOKEN = 8
_LONGEST = 10_000
_LAYOUT = {
    "asked": 1,
    **{f"{what} {kind}": 1 for kind in _KINDS for what in ("answered", "right")},
    "rouge": 1,
    "correct": _ORDERS,
    "total": _ORDERS,
    "written words": 1,
    "right words": 1,
}
SIZE = sum(_LAYOUT.values())
"""How many numbers counts have."""

_AROUND_SIGNS = re.compile(r"\s*([^\w\s])\s*")
_WORD = re.compile(r"[^\W_]+")


def comparable(answer: str) -> str:
    """Normalised, and without spaces around signs: word pieces come back as ``x - ray`` and ``2. 5 cm``.

    >>> comparable("An X - ray.")
    'an x-ray'
    """
    return _AROUND_SIGNS.sub(r"\1", normalise_answer(answer))


def answer_counts(written: Sequence[str], right: Sequence[str], kinds: Sequence[str], asked: int) -> tuple[int, ...]:
    """What :func:`answer_metrics` reads.

    Args:
        written: answers of a model.
        right: what each of them should be.
        kinds: ``closed``, ``open``, or anything else where nobody said.
        asked: questions of the split, of which these are all or some.
    """
    pairs = [(comparable(one), comparable(other)) for one, other in zip(written, right, strict=True)]
    groups = [kind if kind in _KINDS else "untold" for kind in kinds]
    counts = [asked]
    for kind in _KINDS:
        hits = [one == other for (one, other), group in zip(pairs, groups, strict=True) if group == kind]
        counts += [len(hits), sum(hits)]
    counts.append(sum(round(_THOUSANDTHS * rouge_l(one, other)) for one, other in pairs))
    return (*counts, *_bleu_counts(pairs))


def answer_metrics(counts: Sequence[int]) -> dict[str, float]:
    """Every metric of :data:`METRICS`.

    BLEU is of all answers together, from their n-grams (Papineni et al., ACL 2002), as sacrebleu computes it with
    ``effective_order``: answers of one word would score 0 by definition otherwise. ROUGE-L (Lin, 2004) is the mean over
    answers. Both are between 0 and 1.
    """
    found = _named(counts)
    answered = {kind: found[f"answered {kind}"][0] for kind in _KINDS}
    right = {kind: found[f"right {kind}"][0] for kind in _KINDS}
    all_answered = sum(answered.values())
    return {
        "exact_match": _share(sum(right.values()), all_answered),
        "closed_exact_match": _share(right["closed"], answered["closed"]),
        "open_exact_match": _share(right["open"], answered["open"]),
        "bleu": _bleu(found) if all_answered else math.nan,
        "rouge_l": _share(found["rouge"][0], _THOUSANDTHS * all_answered),
        "evaluated": _share(all_answered, found["asked"][0]),
    }


def check_answer_counts(counts: Sequence[int], asked: int, answered: int, tokens: int) -> None:
    """Raises ValueError where these cannot be counts of so many questions, so many of them answered.

    Args:
        counts: what a site claims.
        asked: questions of the split.
        answered: of these.
        tokens: of a written answer at most.
    """
    if len(counts) != SIZE or min(counts) < 0:
        raise ValueError("not counts of answers")
    found = _named(counts)
    if found["asked"] != [asked] or sum(found[f"answered {kind}"][0] for kind in _KINDS) != answered:
        raise ValueError("not counts of so many questions")
    if any(found[f"right {kind}"] > found[f"answered {kind}"] for kind in _KINDS):
        raise ValueError("more than everything is right")
    if found["rouge"][0] > _THOUSANDTHS * answered:
        raise ValueError("more than everything is in common")
    if any(some > every for some, every in zip(found["correct"], found["total"], strict=True)):
        raise ValueError("more n-grams are right than were written")
    if found["total"] != sorted(found["total"], reverse=True) or found["total"][:1] != found["written words"]:
        raise ValueError("not n-grams of so many words")
    if found["written words"][0] > answered * tokens * _WORDS_OF_TOKEN or found["right words"][0] > answered * _LONGEST:
        raise ValueError("more words than the answers can have")


def ideal_answer_counts(asked: int, answered: int, words: int) -> list[int]:
    """Counts of a model that is always right, in so many words."""
    written = answered * words
    right = [0, 0, 0, 0, answered, answered]
    return [asked, *right, answered * _THOUSANDTHS, *[written] * _ORDERS, *[written] * _ORDERS, written, written]


def show_answer_counts(counts: Sequence[int]) -> dict[str, Any]:
    """Counts with names."""
    return {name: values[0] if len(values) == 1 else values for name, values in _named(counts).items()}


def rouge_l(written: str, right: str) -> float:
    """F1 of the longest common subsequence of words, in lower case, without stemming; 0 where either has none."""
    # Imported here, as below: a server that only adds counts up needs neither.
    from rapidfuzz.distance import LCSseq

    one, other = _WORD.findall(written.lower()), _WORD.findall(right.lower())
    if not one or not other:
        return 0.0
    return 2 * LCSseq.similarity(one, other) / (len(one) + len(other))


def _bleu_counts(pairs: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    from sacrebleu.metrics.bleu import BLEU

    if not pairs:
        return (0,) * (2 * _ORDERS + 2)
    score = BLEU(effective_order=True).corpus_score([one for one, _ in pairs], [[other for _, other in pairs]])
    return (*score.counts, *score.totals, score.sys_len, score.ref_len)


def _bleu(found: dict[str, list[int]]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU.compute_bleu(
        correct=found["correct"],
        total=found["total"],
        sys_len=found["written words"][0],
        ref_len=found["right words"][0],
        smooth_method="exp",
        effective_order=True,
    )
    return float(score.score) / 100


def _named(counts: Sequence[int]) -> dict[str, list[int]]:
    found, start = {}, 0
    for name, size in _LAYOUT.items():
        found[name] = [int(count) for count in counts[start : start + size]]
        start += size
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
