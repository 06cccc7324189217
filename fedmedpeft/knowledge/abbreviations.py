"""Abbreviations that a text explains itself, and those that every radiology report takes for granted.

The first after A. Schwartz and M. Hearst, "A simple algorithm for identifying abbreviation definitions in biomedical
text", Pacific Symposium on Biocomputing 2003: the letters of the short form are found from its end to its start in the
words before the bracket, and the first letter must begin a word.
"""

from __future__ import annotations

import re

_BRACKET = re.compile(r"\(([^()]{2,120})\)")
_SENTENCE = re.compile(r"[.;:!?()]")
_LAST_WORD = re.compile(r"\S+$")
_WORDS = re.compile(r"[^\W_]+")

COMMON = {
    "AAA": ("abdominal aortic aneurysm",),
    "CSF": ("cerebrospinal fluid",),
    "CT": ("computed tomography", "x-ray computed tomography"),
    "CTA": ("computed tomography angiography",),
    "CVA": ("cerebrovascular accident", "stroke"),
    "CXR": ("chest x-ray", "chest radiograph", "thoracic radiography"),
    "DVT": ("deep vein thrombosis", "deep venous thrombosis"),
    "DWI": ("diffusion weighted imaging", "diffusion magnetic resonance imaging"),
    "ETT": ("endotracheal tube",),
    "GI": ("gastrointestinal tract",),
    "HCC": ("hepatocellular carcinoma",),
    "ICH": ("intracranial hemorrhage",),
    "IVC": ("inferior vena cava",),
    "KUB": ("abdominal radiograph", "abdominal radiography"),
    "MRA": ("magnetic resonance angiography",),
    "MRI": ("magnetic resonance imaging",),
    "PE": ("pulmonary embolism",),
    "PET": ("positron emission tomography", "positron-emission tomography"),
    "PTX": ("pneumothorax",),
    "SAH": ("subarachnoid hemorrhage",),
    "SBO": ("small bowel obstruction",),
    "SDH": ("subdural hematoma",),
    "SVC": ("superior vena cava",),
    "TB": ("tuberculosis",),
    "TIA": ("transient ischemic attack",),
    "US": ("ultrasound", "ultrasonography"),
}
"""Short form to long forms; the first that the source knows is meant. Only capitals count."""


def explained(text: str) -> dict[str, str]:
    """Short to long form for each "long form (SF)" and "SF (long form)" in ``text``."""
    found: dict[str, str] = {}
    for bracket in _BRACKET.finditer(text):
        before = _SENTENCE.split(text[: bracket.start()])[-1].strip()
        inside = bracket[1].strip()
        if len(inside.split()) <= 2:
            short, long = inside, _long_form(inside, before)
        else:
            short = _last_word(before)
            long = _initials(short, inside)
        if long is not None and _is_short_form(short):
            found.setdefault(short, long)
    return found


def _last_word(text: str) -> str:
    match = _LAST_WORD.search(text)
    return match[0] if match else ""


def _is_short_form(short: str) -> bool:
    return 2 <= len(short) <= 10 and short[0].isalnum() and any(letter.isalpha() for letter in short)


def _long_form(short: str, before: str) -> str | None:
    """The shortest end of ``before`` that holds the letters of ``short`` in order; None where there is none."""
    words = " ".join(before.split()[-min(len(short) + 5, 2 * len(short)) :])
    place = len(words)
    letters = [letter.lower() for letter in short if letter.isalnum()]
    for index in range(len(letters) - 1, -1, -1):
        place -= 1
        while place >= 0 and not (
            words[place].lower() == letters[index] and (index > 0 or place == 0 or not words[place - 1].isalnum())
        ):
            place -= 1
        if place < 0:
            return None
    long = words[place:]
    return long if len(long) > len(short) and short.lower() not in long.lower().split() else None


def _initials(short: str, inside: str) -> str | None:
    """The beginning of ``inside`` whose words begin with the letters of ``short``; None where there is none.

    Stricter than the letters alone: a bracket after a short word is more often a remark than an explanation.
    """
    letters = [letter.lower() for letter in short if letter.isalnum()]
    for word in _WORDS.finditer(inside):
        if letters and word[0][0].lower() == letters[0]:
            letters.pop(0)
        elif word.start() == 0:
            return None
        if not letters:
            return inside[: word.end()] if word.end() > len(short) else None
    return None
