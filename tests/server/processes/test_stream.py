from __future__ import annotations

import pytest

from server.processes.stream import PlainStream, run_id

_LOG = """\
Flower App configuration warnings in '/x/pyproject.toml':
- Recommended property "description" missing in [project]
Using SuperLink: launch (127.0.0.1:41555)
Successfully started run 8745314539914266078
\x1b[92mINFO \x1b[0m:      Starting Flower Simulation
\x1b[93mWARNING \x1b[0m:   Since flwr 1.32, default simulated SuperNodes changed from 10 to 2.
Successfully installed fedmedpeft to /x/apps/fedmedpeft.
Run directory: /x/runs/a
/x/ray/worker.py:2051: FutureWarning: Tip: In future versions of Ray
  warnings.warn(
2026-11-22 02:27:10,123\tINFO worker.py:1 -- Started a local Ray instance.
\x1b[36m(ClientAppActor pid=8015)\x1b[0m client warning
\x1b[33m(raylet)\x1b[0m [2026-11-22 E 1] (raylet pid=12) out of disk
  site-a: 3 train, 1 val, 1 test

 round    loss
Error: no sites left
\x1b[91mERROR \x1b[0m:     Simulation raised an exception
Traceback (most recent call last):
  File "/x/app.py", line 15, in main
RuntimeError: no sites left
\x1b[91mERROR \x1b[0m:     Exit Code: 700

An unhandled exception occurred when running the simulation.
"""


def test_only_what_the_server_app_printed_is_shown() -> None:
    stream = PlainStream()
    shown = [text for line in _LOG.splitlines(keepends=True) if (text := stream.plain(line)) is not None]
    assert shown == ["Run directory: /x/runs/a", "  site-a: 3 train, 1 val, 1 test", "", " round    loss"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Successfully started run 42\n", "42"),
        ("\x1b[32mSuccessfully started run 42\x1b[0m\n", "42"),
        ("Successfully installed run-42", None),
    ],
)
def test_run_id(line: str, found: str | None) -> None:
    assert run_id(line) == found
