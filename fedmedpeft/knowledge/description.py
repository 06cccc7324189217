"""From a vocabulary's definition to the end of a sentence that begins with "<mention> is"."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
# A relation in the Disease Ontology is one word: "derives_from".
_RELATION = re.compile(r"(?<=[a-z])_(?=[a-z])")
_DANGLING = """
a an and as at between but by caused characterized for from in including into is its leading of on or resulting such
than that the their this to usually which with within without
"""
_ENDS_NO_CLAUSE = frozenset(_DANGLING.split())


def finish(definition: str, names: tuple[str, ...] = ()) -> str:
    """A definition as one clause: white space tidied, no leading capital, no repeated "<name> is", no final stop.

    Args:
        names: how the concept is called. "Ascites is fluid in ..." would read "ascites is ascites is fluid in ...".

    >>> finish("Ascites is  a collection_of fluid.", ("ascites",))
    'a collection of fluid'
    """
    text = _RELATION.sub(" ", " ".join(definition.split()))
    for name in names:
        repeated = f"{name} is "
        if text.casefold().startswith(repeated.casefold()):
            text = text[len(repeated) :]
            break
    if text[1:2].islower() or text[1:2] == " ":  # "DNA repair ..." and "T-cell ..." stay as they are
        text = text[:1].lower() + text[1:]
    return text.rstrip(" .;:,")


def shorten(description: str, words: int) -> str:
    """At most ``words`` words: whole sentences where one fits, else up to a word that can end a clause."""
    if len(description.split()) <= words:
        return description
    kept: list[str] = []
    for sentence in _SENTENCE_END.split(description):
        if len(kept) + len(sentence.split()) > words:
            break
        kept += sentence.split()
    if kept:
        return " ".join(kept).rstrip(" .;:,")
    kept = description.split()[:words]
    while len(kept) > 1 and kept[-1].strip(",;:()").lower() in _ENDS_NO_CLAUSE:
        kept.pop()
    return " ".join(kept).rstrip(" .;:,(")


def enumerate_some(items: list[str], most: int = 3) -> str:
    """A few of them in words.

    >>> enumerate_some(["cough", "fever", "rash", "pain"])
    'cough, fever and rash'
    """
    shown = items[:most]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
