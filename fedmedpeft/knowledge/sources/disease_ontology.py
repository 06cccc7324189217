"""The Disease Ontology as tables: definitions, parents, symptoms, and where a disease sits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedmedpeft.knowledge.concept import Concept, refuse
from fedmedpeft.knowledge.description import enumerate_some, finish
from fedmedpeft.knowledge.tables import filled, read_table, several

DEFINITIONS = "disease_ontology.tsv"
LABELS = "do_all_labels.tsv"
_SYMPTOMS = "do_disease_symptom.tsv"
_ANATOMY = "do_disease_anatomy.tsv"
_ROOT = "disease"
_SOURCE = "Disease Ontology"


@dataclass(frozen=True)
class Diseases:
    """What the tables give.

    Attributes:
        defined: diseases with a definition. composed: diseases described by parents, symptoms and places.
        related: symptoms and parts of the body, described by their diseases.
    """

    defined: list[Concept]
    composed: list[Concept]
    related: list[Concept]


@dataclass
class _Relations:
    """Names by the id of the other side, in the order of the table."""

    of_disease: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    diseases_of: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, str] = field(default_factory=dict)


def read_diseases(directory: Path) -> Diseases:
    """All tables of the Disease Ontology in ``directory``; one that is not there is left out.

    Raises:
        DataError: a table cannot be read, lacks a column or a cell that it needs, or defines a disease twice.
    """
    symptoms = _read_relations(directory / _SYMPTOMS, ("disease_id", "disease_label", "symptom_id", "symptom_label"))
    places = _read_relations(directory / _ANATOMY, ("id", "label", "anatomy_id", "anatomy_label"))
    parents = _read_parents(directory / LABELS)
    defined: list[Concept] = []
    composed: list[Concept] = []
    synonyms: dict[str, tuple[str, ...]] = {}
    for id_, name, names, definition in _read_definitions(directory / DEFINITIONS):
        synonyms[id_] = names
        if definition:
            defined.append(Concept(id_, name, names, finish(definition, (name, *names)), _SOURCE))
            parents.pop(id_, None)
        else:
            parents.setdefault(id_, (name, []))
    for id_, (name, above) in parents.items():
        description = _compose(above, places.of_disease.get(id_, []), symptoms.of_disease.get(id_, []))
        if description:
            composed.append(Concept(id_, name, synonyms.get(id_, ()), description, _SOURCE))
    related = _describe_by_diseases(symptoms, "a symptom of") + _describe_by_diseases(
        places, "a part of the body that may have"
    )
    return Diseases(defined, composed, related)


def _read_definitions(path: Path) -> list[tuple[str, str, tuple[str, ...], str]]:
    """Id, name, synonyms and definition ('' where it has none) per disease."""
    if not path.is_file():
        return []
    rows: dict[str, tuple[str, str, tuple[str, ...], str]] = {}
    for number, row in read_table(path, ("id", "name", "definition", "exact_synonyms")):
        id_, name = filled(path, number, row, "id"), filled(path, number, row, "name")
        if id_ in rows:
            raise refuse(f"'{id_}' in row {number} of '{path}' is there twice. Keep one of its rows.")
        rows[id_] = (id_, name, several(row["exact_synonyms"]), row["definition"])
    return list(rows.values())


def _read_parents(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Id to label and parents; a disease with two parents has two rows."""
    parents: dict[str, tuple[str, list[str]]] = {}
    if path.is_file():
        for number, row in read_table(path, ("id", "label", "subClassOf")):
            id_, label = filled(path, number, row, "id"), filled(path, number, row, "label")
            above = parents.setdefault(id_, (label, []))[1]
            above += [parent for parent in (row["subClassOf"],) if parent and parent != _ROOT and parent not in above]
    return parents


def _read_relations(path: Path, columns: tuple[str, str, str, str]) -> _Relations:
    relations = _Relations()
    if path.is_file():
        for number, row in read_table(path, columns):
            disease, label, other, name = (filled(path, number, row, column) for column in columns)
            relations.of_disease[disease].append(name)
            relations.diseases_of[other].append(label)
            relations.names[other] = name
    return relations


def _compose(parents: list[str], places: list[str], symptoms: list[str]) -> str:
    """One clause of what is known; '' where nothing is."""
    parts = [f"a kind of {enumerate_some(parents)}"] if parents else []
    if places:
        parts.append(f"{'that sits' if parts else 'a disease that sits'} in the {enumerate_some(places)}")
    if symptoms:
        parts.append(f"{'with symptoms' if parts else 'a disease with symptoms'} such as {enumerate_some(symptoms)}")
    return " ".join(parts)


def _describe_by_diseases(relations: _Relations, phrase: str) -> list[Concept]:
    names: Mapping[str, str] = relations.names
    return [
        Concept(id_, names[id_], (), f"{phrase} {enumerate_some(diseases)}", _SOURCE)
        for id_, diseases in relations.diseases_of.items()
    ]
