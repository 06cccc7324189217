"""What Flower's SuperNode writes, for someone who does not know Flower."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fedmedpeft.supervision import Ending
from fedmedpeft.supervision.child import plain_ending

CONNECTED = "connected"
_SLOWLY = 60.0
_SOON = 15.0
_NODE = re.compile(r"SuperNode ID: (\d+)")
_RUN = re.compile(r"\[RUN (\d+)(?:, ROUND (\S+))?\]")


def notice(line: str) -> str | None:
    """The sentence for a person in a line of the log, or None."""
    if match := _NODE.search(line):
        return f"{CONNECTED} to the server (as node {match[1]})"
    if "Connection attempt failed" in line:
        return "the server does not answer; trying again"
    if "Connection successful after" in line:
        return f"{CONNECTED} to the server again"
    if match := _RUN.search(line):
        return f"{CONNECTED}; a message of run {match[1]}" + (f", round {match[2]}" if match[2] else "")
    return None


def once_each() -> Callable[[str], str | None]:
    """A :func:`notice` that does not repeat itself."""
    last: list[str | None] = [None]

    def changed(line: str) -> str | None:
        sentence = notice(line)
        if sentence is None or sentence == last[0]:
            return None
        last[0] = sentence
        return sentence

    return changed


def explain(code: int, tail: Sequence[str], address: str) -> Ending:
    """Why the SuperNode ended."""
    text = "\n".join(tail)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = re.search(r"certificate verify failed: ([^(\n]+)", text)
        return Ending(
            f"the certificate of {address} was not accepted ({why[1].strip() if why else 'no reason given'}): it is "
            "not signed by the authority of server.ca-certificate, is for another name, or has expired. Nothing was "
            "sent. Compare the authority's fingerprint with the coordinator; `fedmedpeft site check` says which it is",
            _SLOWLY,
        )
    if "2004" in text and "Failed to activate" in text:
        return Ending(
            "the server does not take this site's key now. Just after this machine or its SuperNode was killed that is "
            "normal: the server believes for a minute that the old one is there. If it stays so, the key (server.key) "
            "is not registered, was revoked, or is in use elsewhere: ask the coordinator, and compare its fingerprint",
            _SOON,
        )
    if "2001" in text and "must be registered" in text:
        return Ending("the server wants sites with a registered key. Ask the coordinator to register this one", _SLOWLY)
    if "address already in use" in text:
        return Ending("the port worker.runtime-port is in use on this machine: name another in site.yaml", _SOON)
    if "Unable to parse the private key" in text:
        return Ending(
            "server.key is no private key as OpenSSH writes it (elliptic curve P-384, no passphrase)", _SLOWLY
        )
    return plain_ending(code, tail)
