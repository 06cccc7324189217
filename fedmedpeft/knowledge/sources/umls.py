"""A user's own export of UMLS: licensed, so it is read from where the user keeps it and never shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from fedmedpeft.components import explain
from fedmedpeft.knowledge.concept import KNOWLEDGE, Concept, LinkerOptions, refuse
from fedmedpeft.knowledge.description import finish
from fedmedpeft.knowledge.tables import filled, read_table, read_text, several

_NAMES = ("name", "mention", "canonical_name")
_DESCRIPTIONS = ("Description-GPT", "Description", "description", "definition")
_SOURCE = "UMLS"


class UmlsOptions(LinkerOptions):
    """Options of ``umls``."""

    path: str = Field(min_length=1, description="your export: .csv or .tsv with CUI, name and description, or .jsonl")


class _Entry(BaseModel):
    """A line of a scispaCy knowledge base; other fields are ignored."""

    concept_id: str = Field(min_length=1)
    canonical_name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    definition: str | None = None


@KNOWLEDGE.register("umls", UmlsOptions)
class Umls:
    """Concepts of a UMLS export that the user made under the user's own licence.

    ``.csv`` and ``.tsv``: columns ``CUI``, ``name`` (or ``mention``), ``Description-GPT`` or ``Description`` (the first
    that is usable; also ``description``), optionally ``synonyms`` (separated by ``|``). ``.jsonl``: one scispaCy entity
    a line (``concept_id``, ``canonical_name``, ``aliases``, ``definition``). One row per concept. A description that is
    empty or says "None" leaves its concept out.

    Example: ``umls(path=/secure/umls_radiology.csv)``
    """

    name = "UMLS"
    licence = "UMLS Metathesaurus: the user's own licence with the U.S. National Library of Medicine; not redistributed"

    def __init__(self, options: UmlsOptions) -> None:
        self.options = options
        self._path = Path(options.path).expanduser().absolute()

    def concepts(self) -> tuple[Concept, ...]:
        readers = {".csv": _read_columns, ".tsv": _read_columns, ".jsonl": _read_lines}
        reader = readers.get(self._path.suffix.lower())
        if reader is None:
            raise refuse(f"'{self._path.name}' is of an unknown kind. umls reads {', '.join(readers)}.")
        seen: set[str] = set()
        kept: list[Concept] = []
        for number, concept in reader(self._path):
            if concept.id in seen:
                raise refuse(f"'{concept.id}' in row {number} of '{self._path}' is there twice. Keep one row of it.")
            seen.add(concept.id)
            if concept.description:
                kept.append(concept)
        if not kept:
            raise refuse(f"'{self._path}' has {len(seen)} concepts, and none with a description that can be used.")
        return tuple(kept)


def _read_columns(path: Path) -> Iterator[tuple[int, Concept]]:
    name = ""
    for number, row in read_table(path, ("CUI",)):
        if not name:
            name = next((column for column in _NAMES if column in row), "")
            if not name or not any(column in row for column in _DESCRIPTIONS):
                raise refuse(
                    f"'{path}' needs a column of names ({' or '.join(_NAMES)}) and one of descriptions "
                    f"({' or '.join(_DESCRIPTIONS)}); it has: {', '.join(row)}. Tables of KPL hold no names: add them."
                )
        called, synonyms = filled(path, number, row, name), several(row.get("synonyms", ""))
        description = next((row[c] for c in _DESCRIPTIONS if _usable(row.get(c, ""))), "")
        id_ = filled(path, number, row, "CUI")
        yield number, Concept(id_, called, synonyms, finish(description, (called, *synonyms)), _SOURCE)


def _read_lines(path: Path) -> Iterator[tuple[int, Concept]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = _Entry.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise refuse(f"Row {number} of '{path}' is not JSON ({error.msg}). One entity a line.") from None
        except ValidationError as error:
            raise refuse(f"Row {number} of '{path}' is no scispaCy entity: {explain(error)}.") from None
        definition = entry.definition or ""
        names = (entry.canonical_name, *entry.aliases)
        description = finish(definition, names) if _usable(definition) else ""
        yield number, Concept(entry.concept_id, entry.canonical_name, entry.aliases, description, _SOURCE)


def _usable(description: str) -> bool:
    """KPL's rewriting step answers "None" where it could make nothing of a definition."""
    return bool(description.strip()) and "None" not in description.split()
