from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge import KNOWLEDGE
from fedmedpeft.knowledge.sources.obo import read_obo

_FILE = r"""format-version: 1.2

[Term]
id: Z:1
name: thing

[Term]
id: Z:2
name: Round thing
def: "Round thing is a thing (\"ball\") without corners." [source:1]
synonym: "ball" EXACT layperson []
synonym: "toy" BROAD []
is_a: Z:1 {source="x"} ! thing

[Term]
id: Z:3
name: Tiny ball
is_a: Z:2 ! Round thing

[Term]
id: Z:4
name: old ball
def: "Gone." []
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


@pytest.fixture
def ontology(tmp_path: Path) -> Path:
    path = tmp_path / "toys.obo"
    path.write_text(_FILE)
    return path


def test_definitions_first_then_what_is_made_of_parents(ontology: Path) -> None:
    first, second = read_obo(ontology)
    assert (first.id, first.name, first.synonyms) == ("Z:2", "Round thing", ("ball",))
    assert first.description == 'a thing ("ball") without corners'
    assert (second.name, second.description, second.source) == ("Tiny ball", "a kind of Round thing", "toys")


def test_below_a_root(ontology: Path) -> None:
    source = KNOWLEDGE.build(f"obo(path='{ontology}', root='Z:3')")
    assert [concept.id for concept in source.concepts()] == ["Z:3"]
    with pytest.raises(DataError, match="has no term 'Z:33'. Did you mean"):
        KNOWLEDGE.build(f"obo(path='{ontology}', root='Z:33')").concepts()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", r"holds no \[Term\]"),
        ("[Term]\nid: Z:1\n", "line 1 .* has no id or no name"),
        ("[Term]\nid: Z:1\nname: a\n[Term]\nid: Z:1\nname: b\n", "'Z:1' at line 4 .* is there twice"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.obo").write_text(content)
    with pytest.raises(DataError, match=message):
        read_obo(tmp_path / "a.obo")
