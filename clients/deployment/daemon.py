"""``python -m clients.deployment.daemon site.yaml``: the site worker as a process of its own.

``fedmedpeft site start`` starts it beside Flower's SuperNode and starts it again where it ends.
"""

from __future__ import annotations

import logging
import os
import pwd
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from clients.deployment.desk import HospitalDesk
from clients.deployment.longest_request import OVERDUE
from clients.deployment.service import service
from clients.deployment.worker_log import WorkerLog
from clients.site_file import LONGEST_SOCKET, STATE_FOLDERS, SiteFile
from clients.state_directory import refuse_others_directory
from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.supervision import AFTER_HANG

_PRIVATE = 0o700
_MOST_AT_ONCE = 16
"""Connections; each may hold a whole message in memory. Flower's processes need one or two, `site status` another."""
_log = logging.getLogger("fedmedpeft.site")


def serve(site: SiteFile, *, grace: float = 3600.0, after_hang: bool = False) -> None:
    """Answer until SIGTERM; then finish what is being answered, at most ``grace`` seconds.

    Where a request lasts longer than ``worker.longest-request`` the process ends at once, with :data:`OVERDUE`.

    Args:
        after_hang: whether the worker before this one had stopped answering.

    Raises:
        ConfigError: another worker of this site runs, or the socket cannot be made.
    """
    _prepare_state(site)
    try:
        with (
            locked(site.state_directory / "worker.lock", wait=False),
            _listening(site) as listening,
            HospitalDesk.opened(site) as desk,
        ):
            settings = {"log_config": None, "access_log": False, "lifespan": "off", "limit_concurrency": _MOST_AT_ONCE}
            app = service(desk, partial(_give_up, site.worker.longest_request), after_hang=after_hang)
            config = uvicorn.Config(app, timeout_graceful_shutdown=int(grace), **settings)  # type: ignore[arg-type]
            # uvicorn raises the signal that ended it once more, for whoever was there before: that must not end the
            # process before the log has its last line.
            for ending in (signal.SIGTERM, signal.SIGINT):
                signal.signal(ending, lambda *_: None)
            uvicorn.Server(config).run(sockets=[listening])
    except BlockingIOError:
        raise ConfigError(
            f"A worker of site '{site.site}' runs already (its lock: '{site.state_directory / 'worker.lock'}'). "
            "Stop it first; two would spend one privacy budget twice."
        ) from None


def _give_up(seconds: int) -> None:
    _log.error("A request lasted longer than worker.longest-request (%d s): this process ends.", seconds)
    logging.shutdown()
    # Nothing else ends a thread that waits for what does not come.
    os._exit(OVERDUE)


def _prepare_state(site: SiteFile) -> None:
    """The state directory, which only the worker's user enters; but for the socket, where Flower's user is another."""
    directory = site.state_directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        refuse_others_directory(directory)
        # Another user may pass through to the socket, and list or read nothing.
        directory.chmod(_PRIVATE | (0o011 if site.worker.flower_user else 0))
        for name in STATE_FOLDERS:
            # Flower's own folder is made, and given to Flower's user, by what starts Flower.
            if name != "flower":
                site.folder(name).mkdir(mode=_PRIVATE, exist_ok=True)
                refuse_others_directory(site.folder(name))
                site.folder(name).chmod(_PRIVATE)
    except OSError as error:
        raise ConfigError(
            f"state='{directory}' cannot be made or is not this user's ({error.strerror}). Name a directory of the "
            "user that the worker runs as."
        ) from None


@contextmanager
def _listening(site: SiteFile) -> Iterator[socket.socket]:
    """The socket, mode 0600, of Flower's user where that is another one."""
    path = site.socket
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET:
        raise ConfigError(
            f"The socket's path '{path}' has {length} bytes, and a socket's can have {LONGEST_SOCKET} at most. "
            "Set worker.socket to a short absolute path, in a directory that only the site's users enter."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _refuse_place(path)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
    except OSError as error:
        raise ConfigError(f"The socket '{path}' cannot be made ({error.strerror}).") from None
    finally:
        os.umask(before)
    with listening:
        _give_to(path, site.worker.flower_user)
        yield listening
    path.unlink(missing_ok=True)


def _refuse_place(path: Path) -> None:
    """What lies there may only be an old socket, and nobody else may put another in its place. Raises ConfigError."""
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise ConfigError(
            f"worker.socket='{path}' is there already and is no socket. It is not deleted: name another path."
        )
    folder = path.parent.stat()
    if folder.st_uid not in (0, os.geteuid()) or folder.st_mode & 0o022:
        raise ConfigError(
            f"worker.socket='{path}': others may write into '{path.parent}', and so put a socket of their own there. "
            "Leave it at worker.sock, or name a path in a directory that only this user may write to (chmod go-w)."
        )


def _give_to(path: Path, user: str) -> None:
    """Let ``user`` open the socket, and nobody else but root. Raises ConfigError."""
    if not user:
        return
    try:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    except KeyError:
        raise ConfigError(
            f"worker.flower-user='{user}': this machine has no such user. Make it, or leave it out."
        ) from None
    except PermissionError:
        raise ConfigError(
            f"worker.flower-user='{user}': the socket can only be given to another user by root. Start as root, or "
            "leave it out."
        ) from None


def main(arguments: list[str]) -> int:
    """Exit code 2 for what the caller can mend."""
    to_stdout = logging.StreamHandler(sys.stdout)
    to_stdout.setFormatter(WorkerLog())
    logging.basicConfig(level=logging.INFO, handlers=[to_stdout])
    try:
        serve(SiteFile.load(Path(arguments[0])), after_hang=AFTER_HANG in os.environ)
    except ConfigError as error:
        _log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
