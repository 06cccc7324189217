"""The files that a site's settings name: are they there, and whose are they?"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.site_file import LONGEST_SOCKET, SiteFile


def check_site_file(facts: Facts) -> Result:
    """Does ``site.yaml`` load? Raises ConfigError as it does."""
    facts.site = SiteFile.load(facts.path)
    if facts.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return warned(
            "site.yaml is sound, but others may write it.",
            "chmod go-w on it: whoever writes it decides what leaves this site.",
            str(facts.path),
        )
    return passed(f"site.yaml of '{facts.site.site}' is sound.")


def check_state(facts: Facts) -> Result:
    """The directory of what must last: this user's alone."""
    path = facts.site.state_directory
    if not path.exists():
        parent = nearest_existing(path)
        if not os.access(parent, os.W_OK | os.X_OK):
            return failed(
                "'state' is not there and cannot be made.", "Make it, mode 0700, owned by the worker's user.", str(path)
            )
        return passed("'state' is not there yet; it will be made, mode 0700.")
    if not path.is_dir():
        return failed("'state' is no directory.", "Name a directory in 'state'.", str(path))
    about = path.stat()
    if not _ours(about.st_uid):
        return failed(
            "'state' belongs to another user.", "chown it to the user that the worker runs as.", owner_of(path)
        )
    # Flower's user, where it is another one, passes through to the socket.
    allowed = 0o711 if facts.site.worker.flower_user else 0o700
    if stat.S_IMODE(about.st_mode) & ~allowed:
        return failed(
            f"'state' is open to others (mode {stat.S_IMODE(about.st_mode):04o}).",
            f"chmod {allowed:04o}: it holds the ledger and the audit log.",
            str(path),
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return failed("'state' cannot be written.", "chmod 0700, and see that its disk is not read-only.", str(path))
    return passed("'state' is this user's alone.")


def check_socket(facts: Facts) -> Result:
    """A longer path cannot be bound, and the error says nothing of why."""
    length = len(os.fsencode(facts.site.socket))
    if length > LONGEST_SOCKET:
        return failed(
            f"the path of 'worker.socket' has {length} bytes; a Unix socket's may have {LONGEST_SOCKET}.",
            "Move 'state' to a shorter path, or name an absolute 'worker.socket', such as one below /run.",
            str(facts.site.socket),
        )
    return passed(f"the path of the socket has {length} of at most {LONGEST_SOCKET} bytes.")


def owner_of(path: Path) -> str:
    """``path`` and the name of its owner, for details."""
    uid = path.stat().st_uid
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return f"{path} belongs to {name}"


def nearest_existing(path: Path) -> Path:
    """``path``, or the first directory above it that is there."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _ours(uid: int) -> bool:
    return uid == os.geteuid() or os.geteuid() == 0
