"""What the server says about its sites, and telling it who may take part."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedmedpeft.components import ConfigError
from fedmedpeft.flower_environment import flower_environment
from server.processes.kit import ServerKit

_PATIENCE = 60.0
_TAKEN = "already in use"


class ServerError(RuntimeError):
    """The server does not answer, or refuses. One line that says what to do."""


@dataclass(frozen=True)
class Site:
    """A site as the server knows it.

    Attributes:
        status: ``registered`` (never seen), ``online``, ``offline`` or ``unregistered``.
        since: of that status, where it was seen at all; ISO 8601, UTC.
        public_key: PEM.
    """

    name: str
    node: int
    status: str
    since: str
    public_key: str


def is_healthy(kit: ServerKit) -> bool:
    """Whether the server answers, with the kit's certificate. No proxy is asked."""
    try:
        context = ssl.create_default_context(cafile=str(kit.directory / "ca.crt"))
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with direct.open(f"https://{kit.address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def list_sites(kit: ServerKit) -> list[Site]:
    """All sites that were ever registered and not removed, by name. (``flwr supernode list`` shows no names.)

    Raises:
        ServerError: it does not answer.
    """
    client = ControlHttpClient.from_server_address(
        server_address=kit.address,
        insecure=False,
        root_certificates=(kit.directory / "ca.crt").read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
    )
    try:
        nodes = client.ListNodes(ListNodesRequest()).nodes_info
    except httpx.HTTPError as error:
        raise ServerError(
            f"The server at {kit.address} does not answer ({type(error).__name__}). Is `fedmedpeft server start` "
            "running?"
        ) from None
    finally:
        client.close()
    sites = [
        Site(node.name or str(node.node_id), node.node_id, node.status, _since(node), node.public_key.decode())
        for node in nodes
    ]
    return sorted(sites, key=lambda site: site.name)


def register_sites(kit: ServerKit, say: Callable[[str], None]) -> None:
    """Register the public keys of the kit that the server does not know, and remove those of ``revoked.json``.

    It can be done again at any time. What cannot be done is said, and hinders nothing else.

    Raises:
        ServerError: the server does not answer.
        ConfigError: ``revoked.json`` cannot be read.
    """
    known = {_canonical(site.public_key): site for site in list_sites(kit)}
    for key in _revoked_keys(kit):
        site = known.get(key)
        if site is not None and site.status != "unregistered":
            ok, why = _flwr(kit, "supernode", "unregister", str(site.node))
            say(f"site '{site.name}': {'its revoked key was removed' if ok else f'its key was not removed: {why}'}")
    for name, path in kit.public_keys().items():
        if _canonical(path.read_text(encoding="utf-8")) in known:
            continue
        ok, why = _flwr(kit, "supernode", "register", str(path), "--name", name)
        if not ok and _TAKEN in why:
            why = "this key was registered before and removed; Flower never takes it again. The site needs a new one"
        say(f"site '{name}': {'registered' if ok else f'not registered: {why}'}")


def operator_environment(kit: ServerKit) -> dict[str, str]:
    """For ``flwr`` commands that speak to this server."""
    kit.write_connection()
    return {**os.environ, **flower_environment(os.environ, kit.operator)}


def as_record(site: Site) -> dict[str, Any]:
    """For ``--json``."""
    return {key: value for key, value in asdict(site).items() if key != "public_key"} | {"node": str(site.node)}


def _flwr(kit: ServerKit, *arguments: str) -> tuple[bool, str]:
    """Whether a ``flwr`` command succeeded (its exit code does not say), else why not."""
    done = subprocess.run(
        ["flwr", *arguments, "--format", "json"],
        env=operator_environment(kit),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    try:
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        return bool(answer["success"]), " ".join(str(answer.get("error-message", "")).split())
    except (ValueError, KeyError, TypeError):
        return False, " ".join((done.stdout + done.stderr).split())[-300:]


def _revoked_keys(kit: ServerKit) -> list[str]:
    path = kit.directory / "revoked.json"
    if not path.is_file():
        return []
    try:
        return [_canonical(str(entry["public_key"])) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"'{path}' cannot be read ({error}); `fedmedpeft provision` writes it.") from None


def _canonical(text: str) -> str:
    """A public key, whether OpenSSH's line or PEM, as PEM; another text as it is."""
    try:
        key = load_ssh_public_key(text.strip().encode())
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().strip()
    except (ValueError, UnsupportedAlgorithm):
        return text.strip()


def _since(node: Any) -> str:
    times = [node.last_activated_at, node.last_deactivated_at, node.unregistered_at]
    seen = [datetime.fromisoformat(text) for text in times if text]
    return max(seen).astimezone(UTC).isoformat(timespec="seconds") if seen else ""
