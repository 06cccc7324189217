"""A user without rights, and a Python that this user can run: for tests as root of what another user can reach."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fedmedpeft.supervision import Account

_ROOT = Path(__file__).parents[1]
NAME = "nobody"


def other_account() -> Account:
    """Skips where processes cannot be started as another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can start processes as another user")
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        pytest.skip(f"this machine has no user '{NAME}'")
    return Account(NAME, entry.pw_uid, entry.pw_gid, (entry.pw_gid,))


def python_of(account: Account, module: str) -> tuple[str, str]:
    """An interpreter, and the PYTHONPATH, with which ``account`` can import ``module``; skips where there is none."""
    path = os.pathsep.join([str(_ROOT), sysconfig.get_path("purelib")])
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            subprocess.run(
                [python, "-P", "-c", f"import {module}"],
                env={"PYTHONPATH": path, "PATH": os.defpath},
                cwd="/",
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
                capture_output=True,
                timeout=60,
                check=True,
            )
            return python, path
        except (OSError, subprocess.SubprocessError):
            continue
    pytest.skip(f"'{account.name}' can run no Python here that has {module}")
