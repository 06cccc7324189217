"""Where the worker's socket and state may lie."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.deployment.daemon import _listening, _prepare_state
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError

Make = Callable[..., SiteFile]


def test_a_socket_is_made_where_an_old_one_lies(site_at: Make) -> None:
    site = site_at()
    _prepare_state(site)
    for _ in range(2):
        with _listening(site) as listening:
            assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
            assert listening.getsockname() == str(site.socket)
            os.link(site.socket, site.socket.with_name("left.sock"))
        site.socket.with_name("left.sock").replace(site.socket)


def test_a_file_of_that_name_is_not_deleted(site_at: Make) -> None:
    site = site_at(worker={"socket": "../labels.csv"})
    _prepare_state(site)
    table = site.directory / "labels.csv"
    table.write_text("file,label\n")
    with pytest.raises(ConfigError, match="is no socket"), _listening(site):
        pass
    assert table.read_text() == "file,label\n"


def test_a_link_of_that_name_is_not_followed(site_at: Make) -> None:
    site = site_at()
    _prepare_state(site)
    site.socket.symlink_to("/nowhere")
    with pytest.raises(ConfigError, match="is no socket"), _listening(site):
        pass


def test_no_socket_where_others_may_put_theirs(site_at: Make) -> None:
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o1777)
        site = site_at(worker={"socket": f"{shared}/w.sock"})
        _prepare_state(site)
        with pytest.raises(ConfigError, match="others may write into"), _listening(site):
            pass


def test_state_of_somebody_else_is_not_used(site_at: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_at()
    _prepare_state(site)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        _prepare_state(site)


def test_folders_that_were_made_too_open_are_closed(site_at: Make) -> None:
    site = site_at()
    site.folder("runs").mkdir(parents=True)
    site.folder("runs").chmod(0o755)
    _prepare_state(site)
    assert stat.S_IMODE(site.folder("runs").stat().st_mode) == 0o700
