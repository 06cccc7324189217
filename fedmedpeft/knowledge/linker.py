"""From a text to sentences about what it mentions: the knowledge that KPL puts beside a question.

KPL (Liang et al., J Biomed Inform 166:104840, 2025) links mentions with scispaCy and UMLS and rewrites
definitions with a language model; here a dictionary and a limit on words stand for both, so it runs offline and gives
the same sentence on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fedmedpeft.knowledge.abbreviations import COMMON
from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, KnowledgeSource, LinkerOptions, content_hash
from fedmedpeft.knowledge.description import shorten
from fedmedpeft.knowledge.general_words import GENERAL_TERMS
from fedmedpeft.knowledge.matcher import Match, Matcher
from fedmedpeft.knowledge.tokens import Token, tokenise

_RULES = 1
"""Goes up when the same vocabulary and text may give another result than before."""


@dataclass(frozen=True)
class Mention:
    """A concept in a text: ``text[start:end]``, as written there."""

    start: int
    end: int
    text: str
    concept: Concept


@dataclass(frozen=True)
class Links:
    """Everything found in one text.

    Attributes:
        mentions: in the order of the text, at most as many as the options allow.
        unmatched: normal forms of the words that are in no match, in their order.
    """

    mentions: tuple[Mention, ...]
    unmatched: tuple[str, ...]


class Linker:
    """Links texts to the concepts of a source. Results are kept in memory, never on disk: texts may be private.

    Attributes:
        hash: SHA-256 (hex) of concepts, options and rules: equal hashes give equal knowledge for every text.
        size: number of concepts.

    Raises:
        DataError: the source's files cannot be used.
    """

    def __init__(self, source: KnowledgeSource, options: LinkerOptions | None = None) -> None:
        self.source = source
        self.options = options or source.options
        concepts = source.concepts()
        self.size = len(concepts)
        limits = {"concepts": self.options.concepts, "words": self.options.words}
        tables = [sorted(COMMON.items()), sorted(GENERAL_TERMS)]
        self.hash = content_hash(concepts, source.name, limits, tables, _RULES)
        self._matcher = Matcher(concepts)
        self._cached = lru_cache(maxsize=100_000)(self._links)

    def knowledge(self, text: str, separator: str) -> str:
        """``"<mention> is <description>"`` for each concept in ``text``; '' where there is none, which is normal.

        Args:
            separator: goes between two sentences: the separator token of the tokenizer that will read them.
        """
        sentences = [self._sentence(mention, separator) for mention in self.link(text)]
        return f"{separator} ".join(sentences)

    def link(self, text: str) -> tuple[Mention, ...]:
        """The concepts that ``text`` mentions."""
        return self._cached(text).mentions

    def links(self, text: str) -> Links:
        """The same, with the words that are part of no concept."""
        return self._cached(text)

    def _links(self, text: str) -> Links:
        tokens = tokenise(text)
        matches = self._matcher.find(text, tokens)
        covered = {place for match in matches for place in range(match.first, match.last + 1)}
        unmatched = tuple(token.form for i, token in enumerate(tokens) if token.word and i not in covered)
        return Links(tuple(_mention(text, tokens, match) for match in self._choose(matches)), unmatched)

    def _choose(self, matches: list[Match]) -> list[Match]:
        """One match per concept, and of too many concepts those whose names have most words; ties go to the first."""
        ranked = sorted(matches, key=lambda match: (match.first - match.last, match.first))
        by_concept: dict[Concept, Match] = {}
        for match in ranked:
            by_concept.setdefault(match.concept, match)
        return sorted(list(by_concept.values())[: self.options.concepts], key=lambda match: match.first)

    def _sentence(self, mention: Mention, separator: str) -> str:
        sentence = f"{mention.text} is {shorten(mention.concept.description, self.options.words)}"
        # A separator inside would be read as the end of the sentence.
        return sentence.replace(separator, " ") if separator.strip() else sentence


def _mention(text: str, tokens: list[Token], match: Match) -> Mention:
    start, end = tokens[match.first].start, tokens[match.last].end
    return Mention(start, end, text[start:end], match.concept)


@lru_cache(maxsize=4)
def build_linker(spec: str) -> Linker:
    """The linker of a source given as text, e.g. ``open(path=/data/vocabularies)``; built once per process.

    Raises:
        ConfigError: unknown source or option, or a package that it needs is missing.
        DataError: its files cannot be used.
    """
    return Linker(KNOWLEDGE.build(spec))
