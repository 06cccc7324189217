from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from fedmedpeft.components import ConfigError
from fedmedpeft.strict_yaml import read_yaml, refuse_unknown


def _read(folder: Path, text: str) -> dict[str, object]:
    file = folder / "a.yaml"
    file.write_text(text)
    return read_yaml(file, "Settings")


@pytest.mark.parametrize("text", ["off", "on", "no", "yes", "No", "y", "n"])
def test_words_that_old_yaml_takes_for_booleans_are_text(tmp_path: Path, text: str) -> None:
    """A privacy that is `off`, or the labels `no` and `yes`."""
    assert _read(tmp_path, f"key: {text}") == {"key": text}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("1e-3", 0.001), ("3", 3), ("'3'", "3")])
def test_values_that_are_no_text(tmp_path: Path, text: str, value: object) -> None:
    assert _read(tmp_path, f"key: {text}") == {"key": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policy: {a: 1}\npolicy: {b: 2}\n", "line 2: 'policy' is there twice"),
        ("policy:\n  a: 1\n  a: 2\n", "line 3: 'a' is there twice"),
        ("1: a\n", "the key 1 is not text"),
        ("a: [\n", "line 2: "),
        ("- a\n", r"holds \['a'\]\. Expected lines of key: value"),
        ("", "holds None"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^Settings '.*a.yaml'.*{words}"):
        _read(tmp_path, text)


def test_a_file_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^YAML file '.*' cannot be read \(No such file or directory\)") as raised:
        read_yaml(tmp_path / "none.yaml")
    assert str(raised.value).count("none.yaml") == 1


class _Model(BaseModel):
    most_rounds: int = Field(1, alias="most-rounds")
    directory: str = Field("", exclude=True)


def test_unknown_keys_are_refused_with_the_nearest() -> None:
    refuse_unknown({"most-rounds": 3}, _Model, "File")
    refuse_unknown("no mapping", _Model, "File")
    with pytest.raises(ConfigError, match=r"^File has no key 'most-round'\. Did you mean 'most-rounds'\? Known: most-"):
        refuse_unknown({"most-round": 3}, _Model, "File")
    with pytest.raises(ConfigError, match=r"no key 'policy\.directory'"):
        refuse_unknown({"directory": "/"}, _Model, "File", "policy")
