"""What a source of medical knowledge is: concepts with their names and one description each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Protocol

from pydantic import Field

from fedmedpeft.components import Options, Registry
from fedmedpeft.data.errors import DataError

PRIVATE = "The site's knowledge source could not be used; the site's own log says why."
"""What may leave a site about it."""


@dataclass(frozen=True)
class Concept:
    """One thing that a text may mention.

    Attributes:
        id: within its source, e.g. ``DOID:552`` or a CUI; unique.
        name: how it is called. synonyms: how else.
        description: goes after "<mention> is"; not empty.
        source: the vocabulary that it comes from.
    """

    id: str
    name: str
    synonyms: tuple[str, ...]
    description: str
    source: str


class LinkerOptions(Options):
    """Options that every source has: how a text is linked to it."""

    concepts: int = Field(3, ge=1, le=50, description="most concepts of one text; the longest mentions stay")
    words: int = Field(22, ge=3, le=200, description="most words of one description")


class KnowledgeSource(Protocol):
    """Concepts from one place. Making one reads nothing: a server can check the options of a path it does not have.

    Attributes:
        name: what it is, without paths.
        licence: what its concepts may be used for, in one line.
        options: how texts are linked to it.
    """

    name: str
    licence: str

    @property
    def options(self) -> LinkerOptions: ...

    def concepts(self) -> tuple[Concept, ...]:
        """All of them, the preferred ones first: where two have the same name, the first is meant.

        Raises:
            DataError: its files are missing or not as they must be.
        """
        ...


KNOWLEDGE: Registry[KnowledgeSource] = Registry("knowledge source")


def refuse(problem: str) -> DataError:
    """The error of a source that cannot be used; only ``PRIVATE`` may leave the site."""
    return DataError(problem, public=PRIVATE)


def content_hash(concepts: Iterable[Concept], *more: object) -> str:
    """SHA-256 (hex) over concepts in their order and whatever else decides what a text is linked to."""
    digest = hashlib.sha256(json.dumps(more).encode())
    for concept in concepts:
        digest.update(json.dumps(astuple(concept)).encode())
    return digest.hexdigest()
