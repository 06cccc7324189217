"""Answers as they are compared: normalised once, where a source reads them."""

from __future__ import annotations

import unicodedata

_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_STOPS = ".\u3002"


def normalise_answer(answer: str) -> str:
    """One spelling for answers that differ in form only.

    Unicode NFKC, lower case, white space collapsed, quotes around the whole and full stops at the end away. Numbers,
    articles and everything inside stay as they are: ``2.5 cm`` is not ``25 cm``. Normalising twice changes nothing.

    >>> normalise_answer('  "Right  Lung." ')
    'right lung'
    """
    while (normal := _once(answer)) != answer:
        answer = normal
    return normal


def guess_answer_type(answer: str) -> str:
    """``closed`` for a normalised yes or no, else ``open``: for sources without a column that says it.

    A choice that the question offers ("CT or MRI?") is closed too in published sets, and cannot be told from an open
    answer here.
    """
    return "closed" if answer in ("yes", "no") else "open"


def _once(answer: str) -> str:
    answer = " ".join(unicodedata.normalize("NFKC", answer).lower().split()).rstrip(_STOPS)
    if len(answer) > 1 and answer[0] in _QUOTES and answer[-1] in _QUOTES:
        answer = answer[1:-1]
    return answer
