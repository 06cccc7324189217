from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

import clients
from clients.processes.shipped_app import AppDiffersError, check_shipped_app
from fedmedpeft import __version__
from tests.shipped_fab import altered_fab, genuine_fab

_ROOT = Path(clients.__file__).parents[1]


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return genuine_fab(tmp_path_factory.mktemp("fab"))


def test_what_submit_sends_is_accepted(fab: bytes) -> None:
    check_shipped_app(fab)


def test_the_whole_project_s_fab_is_accepted(fab: bytes) -> None:
    """As plain `flwr run .` builds it: another pyproject.toml, and texts beside the code."""
    project = (_ROOT / "pyproject.toml").read_bytes()
    check_shipped_app(altered_fab(fab, {"pyproject.toml": project, "README.md": b"x", "clients/notes.md": b"x"}))


_APP = (_ROOT / "clients" / "app.py").read_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clients/app.py": b"import os\n"}, r"clients/app\.py differs"),
        ({"clients/app.py": _APP[:-2] + b"#\n"}, r"clients/app\.py differs"),
        ({"clients/app.py": None}, r"clients/app\.py is missing"),
        ({"server/app.py": _APP}, r"server/app\.py differs"),
        ({"clients/more.py": b""}, r"'clients/more\.py' is not installed"),
        ({"torch.py": b"evil"}, r"'torch\.py' is not installed"),
        ({"fedmedpeft/__init__.py": b""}, "is not installed"),
        ({"clients/_native.so": b""}, "is not installed"),
        ({"clients/../../evil.py": b""}, "is not installed"),
        ({"clients/\x1b[31m\u202e\n.py": b""}, r"'clients/\?\[31m\?\?\.py' is not installed"),
        ({"pyproject.toml": None}, "missing"),
        ({"pyproject.toml": b"[project"}, "cannot be read"),
        ({"pyproject.toml": b"project = 3"}, "its name is 'None'"),
        ({"pyproject.toml": b'[project]\nname="other"\nversion="1"'}, "its name is 'other', not fedmedpeft"),
        ({"pyproject.toml": b'[project]\nname="fedmedpeft"\nversion="9.9"'}, r"version '9\.9', and here"),
    ],
)
def test_any_difference_is_named(fab: bytes, changes: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(AppDiffersError, match=reason):
        check_shipped_app(altered_fab(fab, changes))


def test_another_clientapp_of_the_same_files_is_refused(fab: bytes) -> None:
    text = (
        f'[project]\nname="fedmedpeft"\nversion="{__version__}"\n[tool.flwr.app.components]\nclientapp="server.app:app"'
    )
    with pytest.raises(AppDiffersError, match="ClientApp is not clients"):
        check_shipped_app(altered_fab(fab, {"pyproject.toml": text.encode()}))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_no_fab_at_all(content: bytes) -> None:
    with pytest.raises(AppDiffersError):
        check_shipped_app(content)


def test_a_cut_off_fab(fab: bytes) -> None:
    with pytest.raises(AppDiffersError, match="cannot be read"):
        check_shipped_app(fab[: len(fab) // 2])


def test_a_file_twice(fab: bytes) -> None:
    content = io.BytesIO(fab)
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("clients/app.py", _APP)
    with pytest.raises(AppDiffersError, match="twice"):
        check_shipped_app(content.getvalue())


def test_no_more_is_decompressed_than_what_is_installed(fab: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = altered_fab(fab, {"clients/__init__.py": bytes(50_000_000)})
    read: list[str] = []
    original = zipfile.ZipFile.read

    def noting(archive: zipfile.ZipFile, name: str) -> bytes:
        read.append(name)
        return original(archive, name)

    monkeypatch.setattr(zipfile.ZipFile, "read", noting)
    with pytest.raises(AppDiffersError, match=r"clients/__init__\.py differs"):
        check_shipped_app(bomb)
    assert read == ["pyproject.toml"]
