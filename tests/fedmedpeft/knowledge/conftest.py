"""Small vocabularies to link against, all in our own words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedmedpeft.knowledge import Concept, Linker, LinkerOptions


class PlainSource:
    """Concepts given as they are."""

    name = "plain"
    licence = "none needed"

    def __init__(self, concepts: Sequence[Concept], options: LinkerOptions) -> None:
        self.options = options
        self._concepts = tuple(concepts)

    def concepts(self) -> tuple[Concept, ...]:
        return self._concepts


@pytest.fixture(scope="session")
def link() -> Callable[..., Linker]:
    """Makes a linker of ``name=description`` or ``name|synonym=description`` lines."""

    def make(*lines: str, **options: int) -> Linker:
        concepts = []
        for number, line in enumerate(lines):
            names, _, description = line.partition("=")
            name, *synonyms = names.split("|")
            concepts.append(Concept(f"T:{number}", name, tuple(synonyms), description, "test"))
        return Linker(PlainSource(concepts, LinkerOptions(**options)))

    return make


@pytest.fixture
def vocabularies(tmp_path: Path) -> Path:
    """A directory with all five tables, a few rows each."""
    tables = {
        "disease_ontology.tsv": [
            "id\tname\tdefinition\texact_synonyms\tparents\tumls_cui\tmesh",
            "D:1\tfoggy lung\tA lung trouble that derives_from fog.\tmisty lung|FL\tD:9\t\t",
            "D:2\tcrooked rib\t\tbent rib\tD:9\t\t",
        ],
        "do_all_labels.tsv": [
            "id\tlabel\tsubClassOf",
            "D:1\tfoggy lung\tlung trouble",
            "D:2\tcrooked rib\trib trouble",
            "D:2\tcrooked rib\tbone trouble",
            "D:3\trib trouble\tdisease",
            "D:4\tlone trouble\t",
        ],
        "do_disease_symptom.tsv": [
            "disease_id\tdisease_label\tsymptom_id\tsymptom_label",
            "D:2\tcrooked rib\tS:1\tside stitch",
            "D:4\tlone trouble\tS:2\tlong yawn",
        ],
        "do_disease_anatomy.tsv": [
            "id\tlabel\txrefs\tanatomy_id\tanatomy_label",
            "D:2\tcrooked rib\t\tU:1\trib cage",
            "D:3\trib trouble\t\tU:1\trib cage",
        ],
        "mesh_tree_2019.tsv": [
            "heading\ttree_number",
            "Breathing System\tA05",
            "Windpipe, Upper\tA05.1",
            "Windpipe Ring\tA05.1.2",
            "Wobbly Knee\tC05.3",
            "Knee Troubles\tC05",
            "Feathers\tA13.1",
        ],
    }
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path
