"""This machine: versions, ports, what runs already, room on the disk."""

from __future__ import annotations

import errno
import shutil
import socket
import sys
from importlib.metadata import version

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.preflight.files import nearest_existing
from fedmedpeft import __version__

FLOWER = "1.41"
"""Version of Flower that this one is made for; the site's processes replace parts of it."""
_LOG_ROOM = 200 * 2**20
_STATES_KEPT = 3
_GIB = 2**30


def check_versions(facts: Facts) -> Result:
    """Flower of the version that this is made for."""
    flower = version("flwr")
    told = f"fedmedpeft {__version__}, Flower {flower}, Python {sys.version_info.major}.{sys.version_info.minor}"
    if not flower.startswith(f"{FLOWER}."):
        fix = f"pip install 'flwr>={FLOWER},<1.{int(FLOWER.split('.')[1]) + 1}' in the same environment."
        return failed(f"{told}: it needs Flower {FLOWER}.", fix)
    return passed(f"{told}; tell the coordinator if theirs differ.")


def check_worker(facts: Facts) -> Result:
    """Does this site's worker run already?"""
    path = facts.site.socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return passed("no worker runs for this site yet.")
        except PermissionError:
            return warned(
                "another user's worker seems to run: its socket is not ours to open.",
                "Run this check as the worker's user.",
                str(path),
            )
        except OSError as error:
            return warned(
                f"the worker's socket does not answer ({error.strerror or 'timed out'}).", "Restart the site."
            )
    facts.running = True
    return passed("a worker runs for this site; `fedmedpeft site status` says what it does.")


def check_port(facts: Facts) -> Result:
    """The loopback port of Flower's own tasks."""
    port = facts.site.worker.runtime_port
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return failed(f"port {port} of loopback cannot be used ({error.strerror}).", _ANOTHER_PORT)
            if facts.running:
                return passed(f"port {port} of loopback is in use, as it should be while the site runs.")
            return failed(f"another program uses port {port} of loopback.", _ANOTHER_PORT)
    return passed(f"port {port} of loopback is free.")


_ANOTHER_PORT = "Set 'worker.runtime-port' to another one, from 1024 to 65535."


def check_disk(facts: Facts) -> Result:
    """Room for the state: what stays after each round of a run, and logs."""
    payload = facts.learner.manifest().nbytes if facts.learner is not None else 0
    need = _STATES_KEPT * payload + _LOG_ROOM
    free = shutil.disk_usage(nearest_existing(facts.site.state_directory)).free
    told = f"{free / _GIB:.1f} GiB are free for 'state'; a run takes about {need / _GIB:.1f} GiB"
    if free < need:
        return failed(f"{told}.", "Make room, or move 'state' to another disk.")
    if free < 5 * need:
        return warned(
            f"{told}; logs and finished runs add to that.", "Make room, or remove finished runs below state/runs."
        )
    return passed(f"{told}.")
