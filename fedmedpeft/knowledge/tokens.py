"""Words as a dictionary compares them: without case, accents, plural, possessive, hyphen and British spelling.

The same rules run over the vocabulary and over the texts, so a rule that makes no proper word ("lens" to "len") does no
harm; only two different words that become one would.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

# Letters, digits and the accents that follow a letter; a possessive "'s" or "'" after it belongs to no word.
_WORD = re.compile(r"([^\W_](?:[^\W_]|[\u0300-\u036f])*)(?:['\u2019]s?(?![^\W_]))?")
# Between two words of one name, nothing that is heard: blanks, or one hyphen, dash, apostrophe or underscore.
_JOINS = re.compile(r"\s*|[-\u2010\u2011\u2013_'\u2019]")

_IRREGULAR = {
    "metastases": "metastasis",
    "diagnoses": "diagnosis",
    "prostheses": "prosthesis",
    "stenoses": "stenosis",
    "thromboses": "thrombosis",
    "bronchi": "bronchus",
    "emboli": "embolus",
    "thrombi": "thrombus",
    "calculi": "calculus",
    "sulci": "sulcus",
    "gyri": "gyrus",
    "hila": "hilum",
    "septa": "septum",
    "diverticula": "diverticulum",
    "fistulae": "fistula",
    "vertebrae": "vertebra",
    "foramina": "foramen",
    "apices": "apex",
    "indices": "index",
    "matrices": "matrix",
    "appendices": "appendix",
    "cortices": "cortex",
    "viscera": "viscus",
    "xray": "x ray",
    "grey": "gray",
}
_BRITISH = (
    (re.compile("ae|oe"), "e"),
    (re.compile("our$"), "or"),
    (re.compile("(?<=[tb])re$"), "er"),
    (re.compile("is(?=ation|ed$|ing$)"), "iz"),
    (re.compile("sulph"), "sulf"),
)


class Token(NamedTuple):
    """A word of a text, or the punctuation between two words.

    Attributes:
        start, end: where it stands in the text.
        form: what is compared; a word's form never holds punctuation.
        word: whether it is a word.
    """

    start: int
    end: int
    form: str
    word: bool


def tokenise(text: str) -> list[Token]:
    """The words of ``text`` with the punctuation between them; hyphens, apostrophes and blanks join and leave none."""
    tokens: list[Token] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        if tokens and not _JOINS.fullmatch(gap):
            tokens.append(Token(end, match.start(), gap.strip(), False))
        start, stop = match.span(1)
        tokens.extend(Token(start, stop, form, True) for form in normal_form(match[1]).split(" "))
        end = match.end()
    return tokens


def key(term: str) -> tuple[str, ...]:
    """The forms of a term, for comparison with others."""
    return tuple(token.form for token in tokenise(term))


@lru_cache(maxsize=200_000)
def normal_form(word: str) -> str:
    """One word without case, accents, plural and British spelling; two where it is written as one ("xray").

    >>> [normal_form(word) for word in ("Tumours", "Ménière", "biopsies", "vertebrae", "oesophagus")]
    ['tumor', 'meniere', 'biopsy', 'vertebra', 'esophagus']
    """
    folded = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(c for c in folded if c.isalnum()) or folded
    if plain in _IRREGULAR:
        return _IRREGULAR[plain]
    plain = _singular(plain)
    if len(plain) > 4:
        for pattern, american in _BRITISH:
            plain = pattern.sub(american, plain)
    return _IRREGULAR.get(plain, plain)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
