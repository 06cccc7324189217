"""The server's kit, as `fedmedpeft provision` makes it: where its files lie, and where the server listens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import tomli_w
from cryptography.x509 import load_pem_x509_certificates

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.strict_yaml import read_yaml

CONNECTION = "hospitals"
"""What the operator's Flower configuration calls this server."""
_LOOPBACK = "127.0.0.1"
_SOON = timedelta(days=30)
_ANY = ("0.0.0.0", "::", "")
_FILES = ("ca.crt", "server.crt", "server.key", "superexec.secret")
_SECRET = ("server.key", "superexec.secret")


@dataclass(frozen=True)
class ServerKit:
    """A checked kit.

    Attributes:
        directory: absolute.
        host, port: where Flower's SuperLink listens.
    """

    directory: Path
    host: str
    port: int

    @classmethod
    def open(cls, directory: Path, host: str | None = None, port: int | None = None) -> Self:
        """Read a kit; ``host`` and ``port`` go before those of its ``server.yaml``.

        Raises:
            ConfigError: a file is missing, a secret may be read by others, or ``server.yaml`` is not as it must be.
        """
        directory = directory.absolute()
        for name in _FILES:
            if not (directory / name).is_file():
                raise ConfigError(
                    f"'{directory}' is no server's kit: it has no file '{name}'. `fedmedpeft provision` makes one; "
                    "name it with --kit."
                )
        for name in _SECRET:
            if mode := (directory / name).stat().st_mode & 0o077:
                raise ConfigError(f"'{directory / name}' may be read by others (mode {mode:03o}): chmod 600 it.")
        written = _read(directory / "server.yaml")
        found = cls(directory, host or written.get("host", _LOOPBACK), port or written.get("port", 0))
        if not isinstance(found.host, str) or not isinstance(found.port, int) or not 1 <= found.port <= 65535:
            raise ConfigError(
                f"'{directory / 'server.yaml'}' must say `host: 127.0.0.1` and `port: 8000`, or others; or give --host "
                "and --port."
            )
        return found

    def check_certificate(self, now: datetime) -> str:
        """A sentence to warn with where the server's certificate soon ends; empty otherwise.

        Raises:
            ConfigError: it has ended, or has not begun: no site would send anything.
        """
        path = self.directory / "server.crt"
        try:
            certificate = load_pem_x509_certificates(path.read_bytes())[0]
        except (OSError, ValueError):
            raise ConfigError(f"'{path}' is no certificate. Take it from the kit again.") from None
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        mend = "`fedmedpeft provision rotate --server` makes another."
        if not begin <= now < end:
            raise ConfigError(
                f"The server's certificate holds from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, not now. {mend}"
            )
        return f"the server's certificate ends on {end:%Y-%m-%d}. {mend}" if end - now < _SOON else ""

    @property
    def address(self) -> str:
        """Where this machine's own commands reach the server."""
        return f"{_LOOPBACK if self.host in _ANY else self.host}:{self.port}"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def runs(self) -> Path:
        """Where runs are written, unless a run says an absolute path."""
        return self.directory / "runs"

    @property
    def operator(self) -> Path:
        """FLWR_HOME of commands that ask the server."""
        return self.state / "operator"

    def public_keys(self) -> dict[str, Path]:
        """Name of a site -> file of its public key."""
        return {path.stem: path for path in sorted((self.directory / "sites").glob("*.pub"))}

    def prepare(self) -> None:
        """Make the directories, for their owner only, and the operator's ``config.toml``."""
        for directory in (self.state, self.state / "flower", self.operator, self.state / "logs", self.runs):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        self.write_connection()

    def write_connection(self) -> None:
        """So that plain ``flwr`` commands with this FLWR_HOME speak to this server and to no other."""
        connection = {"address": self.address, "root-certificates": str(self.directory / "ca.crt")}
        content = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: connection}})
        path = self.operator / "config.toml"
        if not path.is_file() or path.read_text(encoding="utf-8") != content:
            write_atomically(path, content, mode=0o600)


def _read(path: Path) -> dict[str, Any]:
    """``server.yaml``; empty where there is none. Raises ConfigError."""
    if not path.is_file():
        return {}
    content = read_yaml(path)
    if set(content) - {"host", "port"}:
        raise ConfigError(f"'{path}' must hold host and port, and nothing else.")
    return content
