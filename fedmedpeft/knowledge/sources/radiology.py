"""A hundred words of radiology, explained in our own words: the source that is always there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, LinkerOptions
from fedmedpeft.knowledge.tables import read_table, several

_FILE = Path(__file__).with_name("radiology.tsv")


@KNOWLEDGE.register("radiology", LinkerOptions)
class Radiology:
    """The package's own glossary: techniques, planes, findings and organs that questions about images are full of.

    Example: ``radiology(concepts=2)``
    """

    name = "radiology"
    licence = "part of fedmedpeft, Apache-2.0"

    def __init__(self, options: LinkerOptions) -> None:
        self.options = options

    def concepts(self) -> tuple[Concept, ...]:
        return glossary()


@lru_cache(maxsize=1)
def glossary() -> tuple[Concept, ...]:
    """Its concepts."""
    return tuple(
        Concept(f"RAD:{number - 1}", row["name"], several(row["synonyms"]), row["description"], "radiology glossary")
        for number, row in read_table(_FILE, ("name", "synonyms", "description"))
    )
