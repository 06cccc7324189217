from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.processes.worker_door import worker_is_up, worker_status


class _Worker(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {"/v1/health": {"site": "Ulm"}, "/v1/status": {"pid": 3}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answers[self.path]).encode())

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), _Worker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "s"
        server.shutdown()


def test_a_worker_answers_whatever_proxy_is_set(door: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert worker_is_up(door)
    assert worker_status(door) == {"pid": 3}


def test_no_worker(tmp_path: Path) -> None:
    assert not worker_is_up(tmp_path / "s")
    (tmp_path / "s").write_text("no socket")
    assert worker_status(tmp_path / "s") is None
