from __future__ import annotations

from pathlib import Path

import pytest

from clients.joining_request import make_join_request, next_steps
from fedmedpeft.components import ConfigError
from fedmedpeft.site_identity import JoinRequest, public_key_line, read_private_key


def test_the_key_stays_and_the_request_can_go(tmp_path: Path) -> None:
    folder = tmp_path / "request"
    made = make_join_request("Basel", folder)
    assert JoinRequest.read(folder / "join-request.json") == made
    assert made.public_key == public_key_line(read_private_key(folder / "site.key").public_key())
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "site.key": 0o600,
        "join-request.json": 0o600,
    }
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("left", ["site.key", "join-request.json"])
def test_a_key_is_never_overwritten(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("mine")
    with pytest.raises(ConfigError, match=f"{left}' is there already and is never overwritten"):
        make_join_request("Basel", tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(left, "mine")]


def test_a_bad_name_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make_join_request("a/b", tmp_path / "request")
    assert not (tmp_path / "request").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        make_join_request("Basel", tmp_path / "file" / "below")


def test_the_steps_name_what_to_send_and_what_to_compare(tmp_path: Path) -> None:
    request = make_join_request("Basel", tmp_path)
    text = "\n".join(next_steps(request, tmp_path))
    assert request.fingerprint in text
    assert "never send it" in text
