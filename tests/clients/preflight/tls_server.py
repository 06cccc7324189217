"""A server on loopback with certificates made here, that answers the signed probe with Flower's own code."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import HTTPException
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.error import FlowerError
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers
from starlette.datastructures import Headers


class Authority:
    """Signs certificates for tests."""

    def __init__(self, name: str = "authority", days: float = 3650) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self.name, self.key, days, authority=True, host="")

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, folder: Path, *, host: str = "127.0.0.1", days: float = 365) -> Path:
        """One file with a key and a certificate for ``host``, that ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        certificate = self._signed(name, key, days, authority=False, host=host)
        path = folder / "server.pem"
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        path.write_bytes(key.private_bytes(*pem) + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: float, *, authority: bool, host: str
    ) -> x509.Certificate:
        end = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=4000))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if host:
            names: list[x509.GeneralName] = (
                [x509.IPAddress(ip_address(host))] if host[0].isdigit() else [x509.DNSName(host)]
            )
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


class FlowerServer:
    """What the tests tell the server, and what it saw.

    Attributes:
        known: public keys (PEM) that are registered.
        skew: seconds that its clock, as replies show it, is ahead of the true one.
        activated: nodes that were brought online; no probe may.
        fleet: whether it has Flower's routes.
    """

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.skew = 0.0
        self.dated = True
        self.fleet = True
        self.activated: list[int] = []

    def get_node_id_by_public_key(self, public_key: bytes) -> int | None:
        return 7 if public_key in self.known else None

    def activate_node(self, node_id: int, heartbeat_interval: float) -> bool:
        self.activated.append(node_id)
        return True

    def answer(self, headers: Headers, content: bytes) -> tuple[int, str]:
        """As the SuperLink does: first who it is, then what is asked."""
        request = ActivateNodeRequest.FromString(content)
        try:
            asked = SimpleNamespace(headers=headers, state=SimpleNamespace(protobuf_request=request))
            authenticate_node(asked)  # type: ignore[arg-type]
            fleet_handlers.activate_node(request, self)  # type: ignore[arg-type]
        except HTTPException as error:
            return error.status_code, '{"detail":"Invalid SuperNode authentication"}'
        except FlowerError as error:
            return 400, json.dumps(error.to_json("refused"))
        return 200, "{}"


class _TlsServer(ThreadingHTTPServer):
    certificate: Path | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refuses the certificate hangs up: that is what is tested."""

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self.certificate is None:
            return connection, address
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


@contextmanager
def flower_server(certificate: Path | None, server: FlowerServer | None = None) -> Iterator[int]:
    """Serve on a port of loopback, over TLS where there is a ``certificate``. Gives the port."""
    about = server or FlowerServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, "")

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            fleet = about.fleet and self.path == "/v1/fleet/activate-node"
            self._reply(*about.answer(Headers(dict(self.headers.items())), content) if fleet else (404, "nothing"))

        def _reply(self, status: int, text: str) -> None:
            self.send_response_only(status)
            if about.dated:
                self.send_header("Date", formatdate(time.time() + about.skew, usegmt=True))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    httpd = _TlsServer(("127.0.0.1", 0), Handler)
    httpd.certificate = certificate
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield httpd.server_address[1]
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
