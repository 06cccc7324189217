from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.file_lock import is_locked, locked


def test_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "lock", wait=False), pytest.raises(BlockingIOError):
        locked(tmp_path / "new" / "lock", wait=False).__enter__()
    with locked(tmp_path / "new" / "lock", wait=False):
        pass


def test_looking_makes_no_file_and_takes_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_locked(file)
    assert not file.exists()
    with locked(file, wait=False):
        file.chmod(0o444)
        assert is_locked(file)
        assert is_locked(file)
    assert not is_locked(file)
