from __future__ import annotations

import pytest

from clients.processes.supernode_log import explain, notice, once_each

_FAILED = "ERROR :     Exit Code: 305\nFailed to initialize the connection to the SuperLink.\n"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("INFO :      SuperNode ID: 9344666118619442719", "connected to the server (as node 9344666118619442719)"),
        ("WARNING :   Connection attempt failed, retrying in 0.60 seconds", "the server does not answer; trying again"),
        ("INFO :      Connection successful after 6.99 seconds and 6 tries.", "connected to the server again"),
        ("INFO :      [RUN 42, ROUND 3]", "connected; a message of run 42, round 3"),
        ("INFO :      [RUN 42]", "connected; a message of run 42"),
        ("INFO:     Uvicorn running on http://127.0.0.1:42790 (Press CTRL+C to quit)", None),
    ],
)
def test_what_a_person_should_know(line: str, sentence: str | None) -> None:
    assert notice(line) == sentence


def test_a_server_that_is_away_is_told_once() -> None:
    read = once_each()
    retry = "WARNING :   Connection attempt failed, retrying in 1.03 seconds"
    assert [read(line) for line in (retry, retry, "noise", retry)] == [
        "the server does not answer; trying again",
        None,
        None,
        None,
    ]
    assert read("SuperNode ID: 1") is not None
    assert read(retry) is not None


@pytest.mark.parametrize(
    ("tail", "words", "pause"),
    [
        (
            _FAILED
            + "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate "
            "(_ssl.c:1006)",
            [
                "fl.example.org:443",
                "(unable to get local issuer certificate)",
                "server.ca-certificate",
                "Nothing was sent",
            ],
            60.0,
        ),
        (_FAILED + "[code: 2004] Failed to activate SuperNode.", ["server.key", "minute", "ask the coordinator"], 15.0),
        (
            _FAILED
            + "[code: 2001] SuperNode authentication is enabled. All SuperNodes must be registered via the CLI.",
            ["registered key"],
            60.0,
        ),
        (
            "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use",
            ["worker.runtime-port"],
            15.0,
        ),
        ("Unable to parse the private key file.", ["server.key", "P-384"], 60.0),
        ("something else", ["exit code 1", "something else"], None),
    ],
)
def test_why_it_ended(tail: str, words: list[str], pause: float | None) -> None:
    ending = explain(1, tail.splitlines(), "fl.example.org:443")
    assert all(word in ending.sentence for word in words)
    assert ending.pause == pause
