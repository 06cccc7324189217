"""What the server says about its sites, and telling it who may take part."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from fedmedpeft.components import ConfigError
from fedmedpeft.flower_environment import flower_environment
from server.processes.kit import ServerKit

_PATIENCE = 30.0
_LONGEST_REASON = 300


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


def is_healthy(kit: ServerKit, patience: float = 2.0) -> bool:
    """Whether the server answers, with the kit's certificate, within ``patience`` seconds. No proxy is asked."""
    try:
        require_server(kit, patience)
    except ServerError:
        return False
    return True


def require_server(kit: ServerKit, patience: float = 10.0) -> None:
    """Raises ServerError where no server answers at the kit's address, or not with a certificate of its authority."""
    start = f"`fedmedpeft server start --kit {kit.directory}`"
    try:
        context = ssl.create_default_context(cafile=str(kit.directory / "ca.crt"))
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        direct.open(f"https://{kit.address}/health", timeout=patience).close()
    except urllib.error.HTTPError as error:
        raise ServerError(
            f"What answers at {kit.address} is not this kit's server (HTTP {error.code}). Which other program has that "
            "port? Name another one in server.yaml."
        ) from None
    except OSError as error:
        why = getattr(error, "reason", error)
        if isinstance(why, ssl.SSLCertVerificationError):
            raise ServerError(
                f"The server at {kit.address} shows a certificate that this kit's ca.crt does not vouch for "
                f"({why.verify_message}). Nothing was sent. Is it the server of another kit? If server.crt was "
                f"renewed: stop {start} and start it again."
            ) from None
        if isinstance(why, ssl.SSLError):
            raise ServerError(
                f"What answers at {kit.address} speaks no TLS ({why.reason or why}). Which other program has that "
                "port? Name another one in server.yaml."
            ) from None
        raise ServerError(f"The server at {kit.address} does not answer ({why}). Is {start} running?") from None


class _Direct(ControlHttpClient):
    """Asks no proxy that the environment names, as the server is on this machine."""

    def __init__(self, base_url: str, *, verify: ssl.SSLContext, **options: Any) -> None:
        super().__init__(base_url, verify=verify, **options)
        self._client.close()
        self._client = httpx.Client(verify=verify, timeout=_PATIENCE, trust_env=False)


@contextmanager
def _controls(kit: ServerKit) -> Iterator[ControlHttpClient]:
    """What ``flwr`` commands speak through. Raises ServerError where the server goes away meanwhile."""
    client = _Direct.from_server_address(
        server_address=kit.address,
        insecure=False,
        root_certificates=(kit.directory / "ca.crt").read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
    )
    try:
        yield client
    except httpx.HTTPStatusError as error:
        raise ServerError(f"The server at {kit.address} refuses: {_refusal(error)[1]}") from None
    except httpx.HTTPError as error:
        raise ServerError(
            f"The server at {kit.address} does not answer ({type(error).__name__}). Is `fedmedpeft server start` "
            "running?"
        ) from None
    finally:
        client.close()


def list_sites(kit: ServerKit) -> list[Site]:
    """All sites that were ever registered and not removed, by name. (``flwr supernode list`` shows no names.)

    Raises:
        ServerError: it does not answer.
    """
    with _controls(kit) as controls:
        nodes = controls.ListNodes(ListNodesRequest()).nodes_info
    sites = [
        Site(node.name or str(node.node_id), node.node_id, node.status, _since(node), node.public_key.decode())
        for node in nodes
    ]
    return sorted(sites, key=lambda site: site.name)


def register_sites(kit: ServerKit, say: Callable[[str], None]) -> bool:
    """Register the public keys of the kit that the server does not know, and remove those of ``revoked.json``.

    It can be done again at any time. What cannot be done is said, and hinders nothing else.

    Returns:
        Whether all of it was done.

    Raises:
        ServerError: the server does not answer.
        ConfigError: ``revoked.json`` cannot be read.
    """
    done = True
    known = {_canonical(site.public_key): site for site in list_sites(kit)}
    with _controls(kit) as controls:
        for key in _revoked_keys(kit):
            site = known.get(key)
            if site is not None and site.status != "unregistered":
                removed, sentence = _unregister(controls, site)
                say(f"site '{site.name}': {sentence}")
                done = done and removed
        for name, path in kit.public_keys().items():
            key = _canonical(path.read_text(encoding="utf-8"))
            if key not in known:
                registered, sentence = _register(controls, name, key)
                say(f"site '{name}': {sentence}")
                done = done and registered
    return done


def _unregister(controls: ControlHttpClient, site: Site) -> tuple[bool, str]:
    """Whether it was done, and a sentence. Raises httpx.HTTPError where the server does not answer."""
    try:
        controls.UnregisterNode(UnregisterNodeRequest(node_id=site.node))
    except httpx.HTTPStatusError as error:
        return False, f"its key was not removed: {_refusal(error)[1]}"
    return True, "its revoked key was removed"


def _register(controls: ControlHttpClient, name: str, key: str) -> tuple[bool, str]:
    """Whether it was done, and a sentence. Raises httpx.HTTPError where the server does not answer."""
    try:
        # A SuperNode shows its key with a line feed at the end, and the two must be equal byte for byte.
        controls.RegisterNode(RegisterNodeRequest(public_key=f"{key}\n".encode(), name=name))
    except httpx.HTTPStatusError as error:
        code, why = _refusal(error)
        if code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
            why = "this key was registered before and removed; Flower never takes it again. The site needs a new one"
        return False, f"not registered: {why}"
    return True, "registered"


def _refusal(error: httpx.HTTPStatusError) -> tuple[int, str]:
    """Flower's number and words for why it refuses; -1 and what there is where it gives none."""
    told = FlowerError.from_json(error.response.text)
    code, words = (-1, f"HTTP {error.response.status_code}") if told is None else (told.code, f"{told.message}")
    return code, " ".join(words.split())[:_LONGEST_REASON]


def operator_environment(kit: ServerKit) -> dict[str, str]:
    """For ``flwr`` commands that speak to this server."""
    kit.write_connection()
    return {**os.environ, **flower_environment(os.environ, kit.operator)}


def as_record(site: Site) -> dict[str, Any]:
    """For ``--json``."""
    return {key: value for key, value in asdict(site).items() if key != "public_key"} | {"node": str(site.node)}


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
