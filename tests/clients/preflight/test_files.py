from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.preflight.check import Check, run_checks
from clients.preflight.facts import Facts
from clients.preflight.files import check_site_file, check_socket, check_state
from clients.site_file import LONGEST_SOCKET


def _site_file(path: Path) -> tuple[str, str]:
    (finding,) = run_checks([Check("site-file", "", check_site_file)], Facts(path), lambda check: None)
    return finding.result.status, finding.result.text


def test_a_site_file(make_site: Callable[..., Path]) -> None:
    path = make_site()
    assert _site_file(path) == ("pass", "site.yaml of 'hospital-a' is sound.")
    path.chmod(0o620)
    assert _site_file(path)[0] == "warn"


def test_a_site_file_with_a_typing_error_is_explained(make_site: Callable[..., Path], tmp_path: Path) -> None:
    status, text = _site_file(make_site(devise="cpu"))
    assert (status, "no key 'devise'" in text, "'device'" in text) == ("fail", True, True), text
    assert str(tmp_path) not in text
    assert _site_file(tmp_path / "other.yaml")[0] == "fail"


def test_state_that_is_not_there_yet(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of()
    assert check_state(facts).status == "pass"
    assert not facts.site.state_directory.exists()


def test_state_that_cannot_be_made(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(state="deep/below/state")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert check_state(facts).status == "fail"


@pytest.mark.parametrize(
    ("mode", "user", "status"),
    [
        (0o700, "", "pass"),
        (0o750, "", "fail"),
        (0o711, "", "fail"),
        (0o711, "nobody", "pass"),
        (0o755, "nobody", "fail"),
    ],
)
def test_who_may_enter_the_state(facts_of: Callable[..., Facts], mode: int, user: str, status: str) -> None:
    facts = facts_of(worker={"flower-user": user})
    facts.site.state_directory.mkdir()
    facts.site.state_directory.chmod(mode)
    assert check_state(facts).status == status


def test_state_of_another_user(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of()
    facts.site.state_directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(facts.site.directory).st_uid + 1)  # noqa: PTH116 - one call
    result = check_state(facts)
    assert (result.status, "another user" in result.text) == ("fail", True)


def test_state_that_is_a_file(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of()
    facts.site.state_directory.touch()
    assert check_state(facts).status == "fail"


@pytest.mark.parametrize(("more", "status"), [(0, "pass"), (1, "fail")])
def test_the_longest_socket(facts_of: Callable[..., Facts], more: int, status: str) -> None:
    room = LONGEST_SOCKET - len("/run/ä") + more - 1  # the umlaut has two bytes
    result = check_socket(facts_of(worker={"socket": "/run/ä" + "x" * room}))
    assert result.status == status, result.text
    assert str(LONGEST_SOCKET + more) in result.text
