from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.processes import flower_account as subject
from clients.processes.access_probe import readable
from clients.processes.flower_account import check_separation, flower_account, kept_from_flower, prepare_flower_home
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.supervision import Account
from tests.clients.processes.site_files import write_site
from tests.other_user import NAME, other_account, python_of


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that other users can pass through: pytest's own are its user's only."""
    folder = Path(tempfile.mkdtemp(prefix="fmp-account-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_nobody_else_by_default(tmp_path: Path) -> None:
    site = SiteFile.load(write_site(tmp_path))
    assert flower_account(site) is None
    home = prepare_flower_home(site, None)
    assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(site.state_directory.stat().st_mode) == 0o700
    secret = site.state_directory / "superexec.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_text()) == 64
    before = secret.read_text()
    prepare_flower_home(site, None)
    assert secret.read_text() == before


@pytest.mark.parametrize(
    ("user", "error"),
    [("no-such-user-here", "no such user.*useradd"), ("root", "is root, who can read all data")],
)
def test_a_user_that_cannot_be(tmp_path: Path, user: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        flower_account(SiteFile.load(write_site(tmp_path, **{"flower-user": user})))


def test_without_root_it_is_refused_not_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="only root can start processes as another user"):
        flower_account(SiteFile.load(write_site(tmp_path, **{"flower-user": NAME})))


def test_what_is_kept_from_flower(tmp_path: Path) -> None:
    site = SiteFile.load(write_site(tmp_path))
    for name in ("runs", "ledger"):
        site.folder(name).mkdir(parents=True)
    assert list(kept_from_flower(site)) == ["the site's key", "state/runs", "state/ledger", "data 'labels.csv'"]


def test_the_probe_tells_what_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    there = [str(tmp_path / "file"), str(tmp_path)]
    assert readable([*there, str(tmp_path / "gone")]) == there


def _prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SiteFile, Account, dict[str, str]]:
    """A site whose data, key and ledger are its own user's, and whose Flower processes are another's."""
    account = other_account()
    python, path = python_of(account, "clients.processes.access_probe")
    site = SiteFile.load(write_site(folder / "site", **{"flower-user": NAME}))
    monkeypatch.setattr(sys, "executable", python)
    (folder / "site" / "images").chmod(0o700)
    prepare_flower_home(site, account)
    for name in ("runs", "ledger", "audit"):
        site.folder(name).mkdir(mode=0o700)
    (site.folder("ledger") / "ledger.jsonl").write_text("spent")
    return site, account, {"PYTHONPATH": path, "PATH": os.defpath}


def test_flower_s_user_can_read_neither_data_nor_key_nor_ledger_but_open_the_socket(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a ClientApp process could do, whatever code ran in it."""
    site, account, environment = _prepared(open_folder, monkeypatch)
    assert set(check_separation(site, account, environment)) == set(kept_from_flower(site))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(site.socket))
        site.socket.chmod(0o600)
        os.chown(site.socket, account.uid, account.gid)
        door.listen()
        threading.Thread(target=lambda: door.accept()[0].sendall(b"welcome"), daemon=True).start()
        tried = _try_as(account, sys.executable, site)
    assert tried == {
        "data": "PermissionError",
        "images": "PermissionError",
        "key": "PermissionError",
        "ledger": "PermissionError",
        "state": "PermissionError",
        "socket": "welcome",
        "secret": "read",
    }


_TRIES = """
import os, socket, sys
def attempt(name, act):
    try:
        print(name, act() or "read")
    except OSError as error:
        print(name, type(error).__name__)
folder, state = sys.argv[1:]
attempt("data", lambda: open(folder + "/images/labels.csv").read() and None)
attempt("images", lambda: os.listdir(folder + "/images") and None)
attempt("key", lambda: open(folder + "/site.key").read() and None)
attempt("ledger", lambda: open(state + "/ledger/ledger.jsonl").read() and None)
attempt("state", lambda: os.listdir(state) and None)
attempt("secret", lambda: open(state + "/superexec.secret").read() and None)
door = socket.socket(socket.AF_UNIX)
attempt("socket", lambda: (door.connect(state + "/worker.sock"), door.recv(9).decode())[1])
"""


def _try_as(account: Account, python: str, site: SiteFile) -> dict[str, str]:
    done = subprocess.run(
        [python, "-c", _TRIES, str(site.directory), str(site.state_directory)],
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups,
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize(("path", "mode"), [("images", 0o755), ("site.key", 0o644)])
def test_data_or_key_that_flower_s_user_can_read_stop_the_start(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, mode: int
) -> None:
    site, account, environment = _prepared(open_folder, monkeypatch)
    (site.directory / path).chmod(mode)
    with pytest.raises(ConfigError, match=r"can be read by worker.flower-user='nobody'.*chmod -R o-rwx"):
        check_separation(site, account, environment)


def test_a_certificate_that_flower_s_user_cannot_read(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, account, environment = _prepared(open_folder, monkeypatch)
    (site.directory / "ca.crt").chmod(0o600)
    with pytest.raises(ConfigError, match=r"server.ca-certificate=.*chmod a\+r"):
        check_separation(site, account, environment)


def test_a_python_that_flower_s_user_cannot_run(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, account, environment = _prepared(open_folder, monkeypatch)
    monkeypatch.setattr(subject.sys, "executable", str(open_folder / "no-python"))
    with pytest.raises(ConfigError, match="cannot run this program"):
        check_separation(site, account, environment)


def test_root_gives_nothing_away_that_flower_s_user_links_to(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's processes own Flower's directory, and may put there what they like."""
    site, account, _ = _prepared(open_folder, monkeypatch)
    (site.directory / "shadow").write_text("root's")
    (site.folder("flower") / "superexec.secret").unlink(missing_ok=True)
    (site.folder("flower") / "superexec.secret").symlink_to(site.directory / "shadow")
    prepare_flower_home(site, account)
    assert (site.directory / "shadow").stat().st_uid == os.geteuid()
    secret = site.state_directory / "superexec.secret"
    assert secret.stat().st_uid == account.uid
    assert secret.parent.stat().st_uid == os.geteuid()
