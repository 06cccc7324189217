"""A server from its kit, on loopback: Flower's SuperLink, SuperNodes that dial it, and nginx in front of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedmedpeft.flower_environment import flower_environment
from server.provisioning.federation_file import FederationFile
from server.provisioning.kits import new_kits

_BIN = Path(sys.executable).parent
_WAIT_SECONDS = 120.0


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def make_kits(folder: Path, sites: Sequence[str]) -> tuple[Path, int, int]:
    """Kits that are installed where they were made: their directory, nginx's port, the SuperLink's."""
    public, inner = free_ports(2)
    file = FederationFile.model_validate(
        {
            "name": "trial",
            "server": {"address": f"127.0.0.1:{public}", "port": inner},
            "install": str(folder),
            "sites": [{"name": name} for name in sites],
        }
    )
    kits = folder / "kits"
    new_kits(file, folder, kits)
    (kits / "server").rename(folder / "server")
    (kits / "server").symlink_to(folder / "server")
    return kits, public, inner


@contextmanager
def process(command: Sequence[str], log: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone at the end, with all that it started."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=_environment(home), start_new_session=True
        )
    try:
        yield started
    finally:
        _end(started)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, **flower_environment(os.environ, home)}


def _end(started: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(started.pid, sign)
            started.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def superlink(kit: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Flower's SuperLink with what lies in the server's kit, once it answers."""
    command = [str(_BIN / "flower-superlink"), "--host", "127.0.0.1", "--port", str(port), "--isolation", "process"]
    command += ["--ssl-ca-certfile", str(kit / "ca.crt"), "--ssl-certfile", str(kit / "server.crt")]
    command += ["--ssl-keyfile", str(kit / "server.key"), "--enable-supernode-auth"]
    command += ["--superexec-auth-secret-file", str(kit / "superexec.secret")]
    command += ["--database", str(kit / "superlink.db"), "--disable-runtime-dependency-installation"]
    with process(command, kit / "superlink.log", kit / "flower") as started:
        wait_until(lambda: _listens(port) or started.poll() is not None, "the SuperLink listens")
        assert started.poll() is None, (kit / "superlink.log").read_text()
        yield started


@contextmanager
def supernode(
    folder: Path, address: str, *, ca: Path, key: Path, runtime_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Flower's SuperNode with a site's key; its log is ``folder / "supernode.log"``."""
    folder.mkdir(exist_ok=True)
    command = [str(_BIN / "flower-supernode"), "--superlink", address, "--root-certificates", str(ca)]
    command += ["--auth-supernode-private-key", str(key), "--port", str(runtime_port)]
    with process(command, folder / "supernode.log", folder / "flower") as started:
        yield started


@contextmanager
def nginx(kit: Path, folder: Path, port: int) -> Iterator[None]:
    """nginx with the kit's configuration, on loopback only."""
    folder.mkdir()
    ours = (kit / "nginx" / "fedmedpeft.conf").read_text()
    ours = ours.replace(f"listen {port} ssl;", f"listen 127.0.0.1:{port} ssl;")
    (folder / "fedmedpeft.conf").write_text(ours.replace(f"    listen [::]:{port} ssl;\n", ""))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log {folder}/access.log;\n{paths}include {folder}/fedmedpeft.conf;\n}}\n"
    )
    with process(["/usr/sbin/nginx", "-c", str(folder / "nginx.conf")], folder / "log", folder) as started:
        wait_until(lambda: _listens(port) or started.poll() is not None, "nginx listens")
        assert started.poll() is None, (folder / "log").read_text()
        yield


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until ``holds()``. Raises AssertionError where it does not in time."""
    end = time.monotonic() + _WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.2)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
