"""The knowledge room: vocabularies, and the concepts of them that a question or caption mentions.

``sources/`` say what concepts there are, ``matcher`` finds their names in a text and ``linker`` makes the sentences
that a backbone reads beside it. Everything stays at the site.
"""

from __future__ import annotations

from fedmedpeft.knowledge import sources  # noqa: F401  (importing it registers the sources)
from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, KnowledgeSource, LinkerOptions
from fedmedpeft.knowledge.linker import Linker, Mention, build_linker

__all__ = [
    "KNOWLEDGE",
    "Concept",
    "KnowledgeSource",
    "Linker",
    "LinkerOptions",
    "Mention",
    "build_linker",
]
