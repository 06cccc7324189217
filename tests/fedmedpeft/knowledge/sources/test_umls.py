from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge import KNOWLEDGE, Concept


def read(path: Path, content: str) -> tuple[Concept, ...]:
    path.write_text(content, encoding="utf-8")
    return KNOWLEDGE.build(f"umls(path='{path}')").concepts()


def line(**fields: object) -> str:
    return json.dumps({"concept_id": "C1", "canonical_name": "rib", "definition": "A bone.", "types": ["T1"]} | fields)


def test_a_table_with_the_better_description_first(tmp_path: Path) -> None:
    table = (
        "CUI,name,synonyms,Description,Description-GPT,Source\n"
        'C1,rib,costa|ribs,"A bone, curved.",a curved bone of the chest,X\n'
        "C2,toe,,A digit.,None,X\n"
        "C3,ear,,None,None,X\n"
        "C4,eye,,,,X\n"
    )
    rib, toe = read(tmp_path / "a.csv", table)
    assert rib == Concept("C1", "rib", ("costa", "ribs"), "a curved bone of the chest", "UMLS")
    assert (toe.name, toe.description) == ("toe", "a digit")


def test_a_table_of_mentions_with_tabs(tmp_path: Path) -> None:
    (rib,) = read(tmp_path / "a.tsv", "CUI\tmention\tdescription\nC1\trib\tA bone\n")
    assert (rib.name, rib.description) == ("rib", "a bone")


def test_a_scispacy_knowledge_base(tmp_path: Path) -> None:
    lines = [line(aliases=["costa"]), "", line(concept_id="C2", definition=None)]
    (rib,) = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert rib == Concept("C1", "rib", ("costa",), "a bone", "UMLS")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,description\nrib,x\n", "has no column 'CUI'"),
        ("a.csv", "CUI,Description,Source,Description-GPT\nC1,x,y,z\n", "Tables of KPL hold no names"),
        ("a.csv", "CUI,name\nC1,rib\n", "one of descriptions"),
        ("a.csv", "CUI,name,description\nC1,rib,x\nC1,toe,y\n", "'C1' in row 3 .* is there twice"),
        ("a.csv", "CUI,name,description\nC1,,x\n", "Row 2 .* has no name"),
        ("a.csv", "CUI,name,description\n,rib,x\n", "Row 2 .* has no CUI"),
        ("a.csv", "CUI,name,description\n", "0 concepts, and none with a description"),
        ("a.csv", "CUI,name,description\nC1,rib,None\n", "1 concepts, and none with a description"),
        ("a.jsonl", "{", "Row 1 .* is not JSON"),
        ("a.jsonl", "[1]", "Row 1 .* is no scispaCy entity"),
        ("a.jsonl", '{"concept_id": "C1"}', "'canonical_name' is missing"),
        ("a.jsonl", line() + "\n" + line(), "'C1' in row 2 .* is there twice"),
        ("a.txt", "x", "unknown kind. umls reads .csv, .tsv, .jsonl"),
    ],
)
def test_a_broken_export_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content)


def test_an_export_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        KNOWLEDGE.build(f"umls(path='{tmp_path / 'a.csv'}')").concepts()
