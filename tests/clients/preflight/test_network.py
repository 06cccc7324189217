from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clients.preflight.facts import Facts
from clients.preflight.network import check_proxy, check_reachable, check_tls
from tests.clients.preflight.tls_server import Authority, flower_server


def _tls(facts: Facts) -> tuple[str, str]:
    check_proxy(facts)
    result = check_tls(facts)
    return result.status, result.text


@pytest.mark.parametrize(
    ("host", "days", "status", "words"),
    [
        ("127.0.0.1", 365, "pass", "good for 36"),
        ("127.0.0.1", 12.5, "warn", "good for 12 days"),
        ("127.0.0.1", -1, "fail", "expired"),
        ("127.0.0.1", 4001, "fail", "not valid yet"),
        ("127.0.0.2", 365, "fail", "not for '127.0.0.1'"),
        ("elsewhere.example", 365, "fail", "not for '127.0.0.1'"),
    ],
)
def test_the_servers_certificate(
    facts_of: Callable[..., Facts],
    authority: Authority,
    tmp_path: Path,
    host: str,
    days: float,
    status: str,
    words: str,
) -> None:
    with flower_server(authority.server(tmp_path, host=host, days=days)) as port:
        found, text = _tls(facts_of(server={"address": f"127.0.0.1:{port}"}))
    assert (found, words in text) == (status, True), text


def test_a_host_by_its_name(facts_of: Callable[..., Facts], authority: Authority, tmp_path: Path) -> None:
    with flower_server(authority.server(tmp_path, host="localhost")) as port:
        assert _tls(facts_of(server={"address": f"localhost:{port}"}))[0] == "pass"
        assert _tls(facts_of(server={"address": f"127.0.0.1:{port}"}))[0] == "fail"


@pytest.mark.parametrize("name", ["authority", "another"])
def test_another_authority_is_no_reason_to_go_on(facts_of: Callable[..., Facts], tmp_path: Path, name: str) -> None:
    """One of the same name, too: OpenSSL then finds it, and that the signature is not its own."""
    with flower_server(Authority(name).server(tmp_path)) as port:
        facts = facts_of(server={"address": f"127.0.0.1:{port}"})
        check_proxy(facts)
        result = check_tls(facts)
    assert result.status == "fail"
    assert "not of the authority" in result.text
    assert "Do not go on" in result.fix


def test_a_server_without_tls(facts_of: Callable[..., Facts]) -> None:
    with flower_server(None) as port:
        status, text = _tls(facts_of(server={"address": f"127.0.0.1:{port}"}))
    assert (status, "TLS" in text) == ("fail", True)


def test_reachable(facts_of: Callable[..., Facts]) -> None:
    with flower_server(None) as port:
        facts = facts_of(server={"address": f"127.0.0.1:{port}"})
        check_proxy(facts)
        assert check_reachable(facts).status == "pass"
    refused = check_reachable(facts)
    assert (refused.status, "refuses" in refused.text) == ("fail", True)


def test_a_name_that_nobody_knows(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    facts = facts_of(server={"address": "fed.example.org:443"})
    check_proxy(facts)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = check_reachable(facts)
    assert (result.status, "'fed.example.org'" in result.text) == ("fail", True)


def test_a_silent_firewall(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that drops packets: nothing ever answers. The time-out is shortened, the socket is real."""
    monkeypatch.setattr("clients.preflight.network.SECONDS", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        facts = facts_of(server={"address": f"127.0.0.1:{port}"})
        check_proxy(facts)
        result = check_reachable(facts)
        for one in waiting:
            one.close()
    assert (result.status, "does not answer within" in result.text) == ("fail", True)
    assert "firewall" in result.fix


def test_proxies_of_the_environment(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(server={"address": "fed.example.org:443"})
    assert check_proxy(facts).status == "pass"
    monkeypatch.setenv("HTTPS_PROXY", "http://ward7:secret@proxy.example:3128")
    result = check_proxy(facts)
    assert (result.status, "loopback" in result.text) == ("warn", True)
    assert "secret" not in str(result)
    assert "secret" not in repr(facts.link)
    assert facts.link.first_stop == ("proxy.example", 3128)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert check_proxy(facts).status == "pass"
    assert facts.link.first_stop == ("proxy.example", 3128)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.example.org")
    check_proxy(facts)
    assert facts.link.first_stop == ("fed.example.org", 443)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    assert check_proxy(facts).status == "fail"


def test_tls_goes_through_the_proxy_from_end_to_end(
    facts_of: Callable[..., Facts], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with flower_server(authority.server(tmp_path, host="fed.example.org")) as port, socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        threading.Thread(target=_forward_one, args=(proxy, port, asked), daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.getsockname()[1]}")
        status, text = _tls(facts_of(server={"address": "fed.example.org:443"}))
    assert status == "pass", text
    assert asked[0].startswith("CONNECT fed.example.org:443")
    assert "Basic dXNlcjpwQHNz" in asked[0]


@pytest.mark.parametrize(
    ("answer", "words"), [("407 Proxy Authentication Required", "user and a password"), ("500 No", "HTTP 500")]
)
def test_a_proxy_that_does_not_connect(
    facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch, answer: str, words: str
) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()

        def refuse() -> None:
            client, _ = proxy.accept()
            client.recv(4096)
            client.sendall(f"HTTP/1.1 {answer}\r\n\r\n".encode())
            client.close()

        threading.Thread(target=refuse, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        facts = facts_of(server={"address": "fed.example.org:443"})
        status, text = _tls(facts)
        assert (status, words in text) == ("fail", True), text
    refused = check_reachable(facts)
    assert (refused.status, "HTTPS_PROXY" in refused.fix) == ("fail", True)


def _forward_one(proxy: socket.socket, port: int, asked: list[str]) -> None:
    """A proxy for one connection."""
    client, _ = proxy.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(4096)
    asked.append(request.decode())
    server = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # either side may hang up first
            while content := source.recv(4096):
                target.sendall(content)

    threading.Thread(target=copy, args=(server, client), daemon=True).start()
    copy(client, server)
    server.close()
    client.close()
