from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.run_file import read_run_file


@pytest.mark.parametrize("text", ["rounds = 3", "[config]\nrounds = 3\n[versions]\ntorch = '2'"])
@pytest.mark.parametrize("whole_directory", [False, True])
def test_keys_or_a_table_or_a_run_s_directory(tmp_path: Path, text: str, whole_directory: bool) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    assert read_run_file(tmp_path if whole_directory else file) == {"rounds": 3}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"run\.toml' cannot be read \(No such file or directory\)\. Name a TOML file\."),
        (b"rounds 3", r"run\.toml' cannot be read: it is not TOML \(.*line 1"),
        (b"\xff\xfe", "it is not TOML"),
        (b"config = 3", "config=3 must be a table"),
    ],
)
def test_what_cannot_be_read_is_named_once(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as raised:
        read_run_file(file)
    assert str(raised.value).count(str(file)) == 1
