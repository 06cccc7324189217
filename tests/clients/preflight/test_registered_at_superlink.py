"""The probe against a real SuperLink: it tells who is registered, and leaves the node as it was."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clients.preflight.credentials import check_key
from clients.preflight.facts import Facts
from clients.preflight.login import check_clock, check_registered
from clients.preflight.network import check_proxy, check_tls
from fedmedpeft.flower_environment import flower_environment
from tests.clients.preflight.tls_server import Authority

_PROGRAMS = Path(sys.executable).parent


@contextmanager
def _superlink(folder: Path, certificate: Path, environment: dict[str, str]) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "secret").write_text("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=")
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--ssl-ca-certfile": str(folder / "ca.crt"),
        "--ssl-certfile": str(certificate),
        "--ssl-keyfile": str(certificate),
        "--isolation": "process",
        "--superexec-auth-secret-file": str(folder / "secret"),
        "--database": str(folder / "superlink.db"),
    }
    words = [word for pair in options.items() for word in pair]
    with (folder / "superlink.log").open("w") as log:
        process = subprocess.Popen(
            [_PROGRAMS / "flower-superlink", *words, "--enable-supernode-auth"],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the SuperLink did not start")


@pytest.mark.slow
def test_a_real_superlink(facts_of: Callable[..., Facts], authority: Authority, tmp_path: Path) -> None:
    facts = facts_of()
    home = tmp_path / "flower"
    home.mkdir()
    environment = os.environ | flower_environment(os.environ, home)

    def flwr(*words: str) -> dict[str, object]:
        done = subprocess.run(
            [_PROGRAMS / "flwr", *words, "--format", "json"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    with _superlink(tmp_path, authority.server(tmp_path), environment) as port:
        facts = facts_of(server={"address": f"127.0.0.1:{port}"})
        (home / "config.toml").write_text(
            f'[superlink.test]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{tmp_path / "ca.crt"}"\n'
        )
        for check in (check_proxy, check_key, check_tls, check_clock):
            assert check(facts).status == "pass"
        stranger = check_registered(facts)
        assert (stranger.status, "does not know" in stranger.text) == ("fail", True), stranger
        public = tmp_path / "site.pub"
        public.write_bytes(subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "site.key"], stdout=-1).stdout)
        flwr("supernode", "register", str(public), "test", "--name", "hospital-a")
        before = flwr("supernode", "list", "test")
        known = check_registered(facts)
        assert known.status == "pass", known
        assert flwr("supernode", "list", "test")["nodes"] == before["nodes"]
