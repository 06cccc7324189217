"""Names of concepts in a text: Aho-Corasick over words (pyahocorasick), and a table of abbreviations.

The automaton's letters are whole words, so a match begins and ends at a word by construction ("ill" is never found in
"pill") and takes time in the length of the text, whatever the size of the vocabulary. A. Aho and M. Corasick,
"Efficient string matching: an aid to bibliographic search", Communications of the ACM 18(6), 1975.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import ahocorasick

from fedmedpeft.knowledge.abbreviations import COMMON, explained
from fedmedpeft.knowledge.concept import Concept
from fedmedpeft.knowledge.general_words import FUNCTION_WORDS, GENERAL_TERMS
from fedmedpeft.knowledge.tokens import Token, key

Key = tuple[str, ...]
_LONGEST_ABBREVIATION = 4
_LOUD = 4
"""In a text of so many words and no small letter, capitals are no sign of an abbreviation."""


class Match(NamedTuple):
    """A name of a concept, as places in the list of tokens: ``first`` to ``last``, both included."""

    first: int
    last: int
    concept: Concept


class Matcher:
    """Finds the names of concepts. A name that two concepts share means the first one."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._terms: dict[Key, Concept] = {}
        self._short: dict[str, Concept] = {}
        for concept in concepts:
            self._add(concept.name, concept)
        for concept in concepts:  # a name goes before another concept's synonym
            for synonym in concept.synonyms:
                self._add(synonym, concept)
        for short, long_forms in COMMON.items():
            known = [self._terms[key(long)] for long in long_forms if key(long) in self._terms]
            if known:
                self._short[short] = known[0]  # what radiology means by it goes before what a vocabulary does
        self._words: dict[str, int] = {}
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_ANY, ahocorasick.KEY_SEQUENCE)
        for term, concept in self._terms.items():
            numbers = tuple(self._words.setdefault(word, len(self._words) + 1) for word in term)
            self._automaton.add_word(numbers, (len(term), concept))
        self._automaton.make_automaton()

    def find(self, text: str, tokens: Sequence[Token]) -> list[Match]:
        """Matches that do not overlap, in the order of the text; where two overlap, the one of more words stays.

        Args:
            tokens: those of ``text``.
        """
        meant = {short: self._terms.get(key(long)) for short, long in explained(text).items()}
        candidates = self._abbreviations(text, tokens, meant)
        if self._terms:
            numbers = tuple(self._words.get(token.form, 0) for token in tokens)
            for last, (length, concept) in self._automaton.iter(numbers):
                explained_here = length == 1 and text[tokens[last].start : tokens[last].end] in meant
                if not explained_here:  # the text says itself what this abbreviation means
                    candidates.append(Match(last - length + 1, last, concept))
        # Abbreviations were added first and stay first among equals.
        candidates.sort(key=lambda match: (match.first - match.last, match.first))
        taken: set[int] = set()
        chosen = []
        for match in candidates:
            places = range(match.first, match.last + 1)
            if taken.isdisjoint(places):
                taken.update(places)
                chosen.append(match)
        return sorted(chosen)

    def _add(self, term: str, concept: Concept) -> None:
        if _is_abbreviation(term):
            self._short.setdefault(term, concept)
            return
        forms = key(term)
        if not forms or forms in GENERAL_TERMS or all(form in FUNCTION_WORDS for form in forms):
            return
        if len(forms) > 1 or len(forms[0]) > 2 or _is_sequence_name(forms[0]):
            self._terms.setdefault(forms, concept)

    def _abbreviations(self, text: str, tokens: Sequence[Token], meant: dict[str, Concept | None]) -> list[Match]:
        loud = text == text.upper() and sum(token.word for token in tokens) >= _LOUD
        found = []
        for place, token in enumerate(tokens):
            written = text[token.start : token.end]
            singular = written[:-1] if written[-1:] == "s" and written[:-1].isupper() else written
            concept = None
            if singular in meant:
                concept = meant[singular]
            elif singular in self._short and not loud:
                concept = self._short[singular]
            if concept is not None:
                found.append(Match(place, place, concept))
        return found


def _is_sequence_name(form: str) -> bool:
    """Two characters are too few for a word, but "T2" is one."""
    return len(form) == 2 and form[0].isalpha() and form[1].isdigit()


def _is_abbreviation(term: str) -> bool:
    return 2 <= len(term) <= _LONGEST_ABBREVIATION and term.isalpha() and term.isupper()
