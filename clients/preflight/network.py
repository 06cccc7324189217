"""From this machine to the server: name, proxy, port, TLS."""

from __future__ import annotations

import http
import http.client
import re
import socket
import ssl
import time

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.credentials import DAYS_OF_WARNING
from clients.preflight.facts import Facts
from clients.preflight.server_link import SECONDS, ServerLink, proxy_for

_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
_OTHER_AUTHORITY = (7, 18, 19, 20, 21)
"""OpenSSL's codes of what is wrong with a certificate (X509_V_ERR_...)."""

_NO_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
"""Python's words where a proxy refuses."""


def check_proxy(facts: Facts) -> Result:
    """Proxies of the environment: is the server reached through one, and is loopback excepted?"""
    facts.link = link = ServerLink.to(facts.site.server.address)
    if link.proxy is not None and link.proxy.scheme not in ("http", "https"):
        return failed(
            f"the environment names a {link.proxy.scheme} proxy for the server.",
            "Set HTTPS_PROXY to an HTTP proxy, or except the server with NO_PROXY.",
        )
    way = "the server is reached without a proxy" if link.proxy is None else "the server is reached through HTTPS_PROXY"
    if proxy_for("127.0.0.1") is not None:
        return warned(
            f"{way}, and NO_PROXY does not except loopback, where Flower's own processes talk to each other.",
            "Set NO_PROXY=127.0.0.1,localhost (`fedmedpeft site start` does so for what it starts).",
        )
    return passed(f"{way}.")


def check_reachable(facts: Facts) -> Result:
    """Can a TCP connection be made?"""
    host, port = facts.link.first_stop
    what = "the server" if facts.link.proxy is None else "the proxy"
    open_it = "Allow outgoing TCP to it in the firewall; nothing needs to come in."
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except socket.gaierror:
        return failed(f"the name of {what} ('{host}') is not known.", "Correct 'server.address', or mend the DNS.")
    except TimeoutError:
        return failed(f"{what} ('{host}', port {port}) does not answer within {SECONDS:g} s.", open_it)
    except ConnectionRefusedError:
        ask = "Ask the coordinator whether the server runs, and on which port."
        look = "Look at HTTPS_PROXY: are host and port of the proxy right, and does it run?"
        return failed(f"'{host}' refuses port {port}.", ask if facts.link.proxy is None else look)
    except OSError as error:
        return failed(f"{what} ('{host}', port {port}) cannot be reached ({error.strerror}).", open_it)
    return passed(f"{what} ('{host}') answers on port {port}.")


def check_tls(facts: Facts) -> Result:
    """Is the server whom the authority says it is, and for how long?"""
    try:
        connection = facts.link.open(facts.site.path(facts.site.server.ca_certificate))
    except ssl.SSLCertVerificationError as error:
        return _refused(error, facts.link.host)
    except ssl.SSLError as error:
        return failed(
            "what answers does not speak TLS as expected.", "Check 'server.address': is this the port?", str(error)
        )
    except (OSError, http.client.HTTPException) as error:
        return _broken(error)
    try:
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate, protocol = connection.sock.getpeercert() or {}, connection.sock.version()
    finally:
        connection.close()
    days = int((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) // 86400)
    told = f"the server's certificate is the authority's and names '{facts.link.host}'; it is good for {days} days"
    if days < DAYS_OF_WARNING:
        return warned(f"{told}.", "Tell the coordinator: it has to be renewed.")
    return passed(f"{told} ({protocol}).")


def _broken(error: Exception) -> Result:
    """Before anything was said of a certificate."""
    told = _NO_TUNNEL.search(str(error))
    if told is None:
        return failed(
            f"the connection broke while TLS began ({type(error).__name__}).",
            "A firewall or proxy may cut it: allow TLS from end to end.",
            str(error),
        )
    if int(told[1]) == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return failed(
            "the proxy wants a user and a password.",
            "Set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, in a file that only the service can read.",
            str(error),
        )
    return failed(
        f"the proxy does not connect to the server (HTTP {told[1]}).",
        "Have it allow the host and port of 'server.address'; or ask the coordinator whether the server runs.",
        str(error),
    )


def _refused(error: ssl.SSLCertVerificationError, host: str) -> Result:
    code = error.verify_code
    if code == _EXPIRED:
        return failed(
            "the server's certificate, or its authority's, has expired.", "Tell the coordinator; check this clock."
        )
    if code == _NOT_YET:
        return failed(
            "the server's certificate is not valid yet.", "Check this machine's clock; then ask the coordinator."
        )
    if code in (_WRONG_HOST, _WRONG_ADDRESS):
        return failed(
            f"the server's certificate is not for '{host}'.",
            "Use the name that the coordinator gave in 'server.address'; if it is that, the certificate lacks it.",
        )
    if code in _OTHER_AUTHORITY:
        return failed(
            "the server's certificate is not of the authority in 'server.ca-certificate'.",
            "Do not go on: it may be another server, or a proxy that opens TLS. Compare the authority's fingerprint "
            "with the coordinator's by telephone; have a proxy leave this host alone.",
        )
    return failed(f"the server's certificate is refused: {error.verify_message}.", "Tell the coordinator.")
