"""The MeSH tree: headings and their places, from which "a part of" and "a kind of" are made."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from fedmedpeft.knowledge.concept import Concept, refuse
from fedmedpeft.knowledge.description import enumerate_some
from fedmedpeft.knowledge.tables import filled, read_table

PATTERN = "mesh_tree*.tsv"
_TOP = {"A": "human anatomy", "C": "diseases and symptoms", "E": "medical techniques and equipment", "F": "psychiatry"}
# Animals, plants and microbes; most of psychology, whose headings are everyday words ("Attention").
_LEFT_OUT = ("A13", "A18", "A19", "A20", "A21", "C22", "F01", "F02", "F04")
# Children of these are kinds, not parts, though they are anatomy.
_KINDS = ("A10", "A11", "A12")


def read_mesh(path: Path) -> list[Concept]:
    """One concept per heading of the tree; a heading may stand in many places.

    Raises:
        DataError: the file cannot be read, lacks a column or a cell, or a tree number is there twice.
    """
    heading_at: dict[str, str] = {}
    places: dict[str, list[str]] = defaultdict(list)
    for number, row in read_table(path, ("heading", "tree_number")):
        heading, place = filled(path, number, row, "heading"), filled(path, number, row, "tree_number")
        if place in heading_at:
            raise refuse(f"Tree number '{place}' in row {number} of '{path}' is there twice. Keep one of its rows.")
        heading_at[place] = heading
        if not place.startswith(_LEFT_OUT):
            places[heading].append(place)
    children: dict[str, list[str]] = defaultdict(list)
    for place, heading in heading_at.items():
        children[place.rpartition(".")[0]].append(heading)
    return [
        Concept(f"MeSH:{found[0]}", natural(heading), (heading,), _describe(found, heading_at, children), "MeSH")
        for heading, found in places.items()
    ]


def natural(heading: str) -> str:
    """A heading as it is said.

    >>> natural("Tomography, X-Ray Computed")
    'X-Ray Computed Tomography'
    """
    if " and " in heading or " or " in heading:
        return heading
    return " ".join(reversed(heading.split(", ")))


def _describe(found: list[str], heading_at: dict[str, str], children: dict[str, list[str]]) -> str:
    above = [natural(heading_at.get(place.rpartition(".")[0], "")).lower() for place in found]
    above = [name for name in dict.fromkeys(above) if name]
    part = found[0].startswith("A") and not found[0].startswith(_KINDS)
    relation = "a part of" if part else "a kind of" if found[0][0] in "AE" else "one of"
    top = f"a subject of {_TOP.get(found[0][0], 'medicine')}"
    clause = f"{relation} {enumerate_some(above, 2)}" if above else top
    below = dict.fromkeys(natural(name).lower() for place in found for name in children.get(place, []))
    if not below:
        return clause
    return f"{clause}, {'with parts' if part else 'with kinds'} such as {enumerate_some(list(below))}"
