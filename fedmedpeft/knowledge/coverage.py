"""How much of some texts a source knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedmedpeft.knowledge.general_words import FUNCTION_WORDS, GENERAL_TERMS
from fedmedpeft.knowledge.linker import Linker

_SHORTEST_WORD = 3


@dataclass(frozen=True)
class Coverage:
    """What a linker finds in texts.

    Attributes:
        texts: how many. linked: how many of them have a concept.
        mentions: concepts over all texts.
        concepts: the most frequent ones: name and vocabulary, and in how many texts.
        unmatched: the most frequent content words that are in no concept.
    """

    texts: int
    linked: int
    mentions: int
    concepts: tuple[tuple[str, int], ...]
    unmatched: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Share of texts with a concept."""
        return self.linked / self.texts if self.texts else 0.0

    @property
    def per_text(self) -> float:
        """Concepts per text."""
        return self.mentions / self.texts if self.texts else 0.0


def measure_coverage(linker: Linker, texts: Sequence[str], most: int = 20) -> Coverage:
    """Link ``texts`` and count; ``most`` concepts and words are listed."""
    linked, concepts, unmatched = 0, Counter[str](), Counter[str]()
    for text in texts:
        links = linker.links(text)
        linked += bool(links.mentions)
        concepts.update(f"{mention.concept.name} ({mention.concept.source})" for mention in links.mentions)
        unmatched.update(word for word in links.unmatched if _has_content(word))
    return Coverage(len(texts), linked, concepts.total(), _top(concepts, most), _top(unmatched, most))


def _has_content(word: str) -> bool:
    known = word in FUNCTION_WORDS or (word,) in GENERAL_TERMS
    return len(word) >= _SHORTEST_WORD and word.isalpha() and not known


def _top(counts: Counter[str], most: int) -> tuple[tuple[str, int], ...]:
    """The most frequent, ties by name: the order must not depend on the order of the texts."""
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])
