"""A file with sections, and lists of them, as people get it wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field, field_validator

from fedmedpeft.components import ConfigError
from fedmedpeft.section import Names, Section
from fedmedpeft.written_file import WrittenFile


class _Entry(Section):
    most_rounds: int = 1


class _Part(Section):
    entry: _Entry = Field(default_factory=_Entry)
    names: Names = ()


class _Whole(WrittenFile):
    kind: ClassVar[str] = "Plan"

    title: str
    part: _Part = Field(default_factory=_Part)
    parts: list[_Part] = Field(default_factory=list)
    folder: Path = Field(default_factory=Path, exclude=True)

    @field_validator("title")
    @classmethod
    def _asks(cls, title: str) -> str:
        if title == "why":
            raise ValueError("why?")
        return title

    @classmethod
    def known_of(cls, path: Path) -> dict[str, Any]:
        return {"folder": path.parent}

    @classmethod
    def hint(cls, content: Mapping[str, Any]) -> str:
        return " Quote it." if content.get("title") == 7 else ""


def _load(folder: Path, text: str) -> _Whole:
    (folder / "a.yaml").write_text(text)
    return _Whole.load(folder / "a.yaml")


def test_a_good_file(tmp_path: Path) -> None:
    whole = _load(tmp_path, "title: a\npart: {names: [x]}\nparts: [{entry: {most-rounds: 3}}]\n")
    assert (whole.part.names, whole.parts[0].entry.most_rounds, whole.folder) == (("x",), 3, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("titel: a", "has no key 'titel'. Did you mean 'title'? Known: title, part, parts."),
        ("title: a\npart: {name: []}", "has no key 'part.name'. Did you mean 'names'?"),
        ("title: a\npart: {entry: {most-round: 1}}", "has no key 'part.entry.most-round'. Did you mean 'most-rounds'?"),
        ("title: a\npart: {entry: {most_rounds: 1}}", "has no key 'part.entry.most_rounds'."),
        ("title: a\nparts: [{}, {entry: {rounds: 1}}]", "has no key 'parts.1.entry.rounds'."),
        ("title: a\nfolder: /", "has no key 'folder'."),
        ("title: a\npart: 3", ": part=3: must hold key: value."),
        ("title: a\nparts: 3", ": parts=3: Input should be a valid list."),
        ("title: a\nparts: [3]", ": parts.0=3: must hold key: value."),
        ("title: 7", ": title=7: must be text; where it may be read as something else, put it in quotes. Quote it."),
        ("title: why", ": title='why': why?"),
        ("part: {}", ": 'title' is missing."),
    ],
)
def test_what_is_wrong_is_named_with_where(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _load(tmp_path, f"{text}\n")
    assert str(raised.value).startswith(f"Plan '{tmp_path / 'a.yaml'}'{words if words[0] == ':' else ' ' + words}")
