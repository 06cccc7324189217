from __future__ import annotations

import importlib
import inspect
import socketserver
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients.deployment.link import REFUSED_ELSEWHERE
from clients.deployment.other_code import Difference, Told
from clients.processes.clientapp_process import replace_loading
from fedmedpeft.exchange import Refusal
from tests.shipped_fab import altered_fab, genuine_fab

_RUNTIME = "flwr.supernode.runtime.run_clientapp"


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return genuine_fab(tmp_path_factory.mktemp("fab"))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Flower's module, with our functions in the places of its own, and put back after the test."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr-home"))
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    module = importlib.import_module(_RUNTIME)
    before = {name: getattr(module, name) for name in vars(module) if not name.startswith("__")}
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    replace_loading(module)
    yield module
    for name, value in before.items():
        setattr(module, name, value)


class _Heartbeat:
    is_running = False

    def __init__(self, *arguments: Any) -> None:
        pass

    def start(self) -> None:
        pass


def _process(
    runtime: types.ModuleType, fab: bytes, kind: str, monkeypatch: pytest.MonkeyPatch, socket: Path | None = None
) -> Message:
    """The reply of Flower's own run_clientapp to one message, with the network taken away."""
    message = Message(RecordDict({}), dst_node_id=1, message_type=kind)
    message.metadata.__dict__["_message_id"] = "message"
    node_config: Any = {} if socket is None else {"site-socket": str(socket)}
    context = Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})
    run = Run.create_empty(1)
    replies: list[Message] = []
    monkeypatch.setattr(runtime, "pull_task_input", lambda client: (message, context, run, Fab("hash", fab, {})))
    monkeypatch.setattr(runtime, "push_message", lambda client, reply, context: replies.append(reply))
    monkeypatch.setattr(runtime, "HeartbeatSender", _Heartbeat)
    monkeypatch.setattr(runtime, "register_signal_handlers", lambda **named: None)
    monkeypatch.setattr(runtime, "flwr_exit", lambda **named: None)
    runtime.run_clientapp("127.0.0.1:9", "token", True, None, None, False)
    return replies[0]


def test_code_from_the_server_never_runs(
    runtime: types.ModuleType, fab: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, secret = tmp_path / "it-ran", tmp_path / "patients.csv"
    secret.write_text("patient 4711")
    hostile = f"open({str(trace)!r}, 'w').write(open({str(secret)!r}).read())\n"
    evil = altered_fab(fab, {name: hostile.encode() for name in ("clients/app.py", "clients/__init__.py", "httpx.py")})
    reply = _process(runtime, evil, "query.join", monkeypatch)
    assert reply.error.code == Refusal.CODE
    assert reply.error.reason == (
        "the app that the server sent is not the one installed here ('httpx.py' is not installed)"
    )
    assert not trace.exists()
    assert not (tmp_path / "flwr-home" / "apps").exists(), "nothing may be unpacked"
    assert all("it-ran" not in str(path) for path in sys.path)


class _Worker(BaseHTTPRequestHandler):
    told: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.told.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("up", [True, False])
def test_the_worker_is_told_of_a_refusal_and_one_that_is_down_changes_nothing(
    runtime: types.ModuleType, fab: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up: bool
) -> None:
    monkeypatch.setattr(_Worker, "told", [])
    evil = altered_fab(fab, {"clients/app.py": b"import os\n"})
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), _Worker) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        socket = tmp_path / "s" if up else tmp_path / "none"
        reply = _process(runtime, evil, "train.visit", monkeypatch, socket)
        server.shutdown()
    assert reply.error.code == Refusal.CODE
    assert reply.error.reason.endswith("(clients/app.py differs)")
    told = [Told.model_validate_json(content) for path, content in _Worker.told if path == REFUSED_ELSEWHERE]
    assert told == ([Told.about("train.visit", Difference.of("differs", "clients/app.py"))] if up else [])


def test_the_installed_app_answers_where_the_same_was_sent(
    runtime: types.ModuleType, fab: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = _process(runtime, fab, "query.join", monkeypatch)
    # It gets as far as its own question: which site is this?
    assert reply.error.code == Refusal.CONFIGURATION
    assert "site-socket" in reply.error.reason
    assert not (tmp_path / "flwr-home" / "apps").exists()


def test_an_exception_s_text_stays_here(runtime: types.ModuleType, fab: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind of message that the app does not know, for one; Flower would send the text."""
    reply = _process(runtime, fab, "train.unheard_of", monkeypatch)
    assert reply.error.code == Refusal.INTERNAL
    assert "unheard" not in reply.error.reason


def test_nothing_is_installed_for_an_app(runtime: types.ModuleType) -> None:
    with pytest.raises(RuntimeError, match="nothing is installed"):
        runtime.install_app_dependencies(Path(), "a", 1, {})


def _copy(module: types.ModuleType, **changes: object) -> types.ModuleType:
    copy = types.ModuleType("changed")
    vars(copy).update({name: value for name, value in vars(module).items() if not name.startswith("__")})
    vars(copy).update(changes)
    return copy


def _another(run: Callable[..., None]) -> Callable[..., None]:
    """A function with the parameters of Flower's, that loads apps by other means."""
    namespace: dict[str, Any] = {}
    exec(f"def run_clientapp({', '.join(inspect.signature(run).parameters)}): load_the_app()", namespace)
    function: Callable[..., None] = namespace["run_clientapp"]
    return function


@pytest.mark.parametrize("name", ["run_clientapp", "install_from_fab", "get_load_client_app_fn"])
def test_another_flower_is_refused_at_the_start(name: str) -> None:
    module = importlib.import_module(_RUNTIME)
    for changed in (lambda something_else: None, None):
        with pytest.raises(SystemExit, match=rf"'{name}' has changed.*pip install"):
            replace_loading(_copy(module, **{name: changed}))
    assert module.install_from_fab.__module__.startswith("flwr.")


def test_a_flower_that_loads_apps_by_other_means_is_refused() -> None:
    module = importlib.import_module(_RUNTIME)
    with pytest.raises(SystemExit, match="'install_from_fab' has changed"):
        replace_loading(_copy(module, run_clientapp=_another(module.run_clientapp)))


def test_it_is_light() -> None:
    """Flower starts it for every message."""
    program = (
        "import importlib, sys; from clients.processes import clientapp_process as own;"
        f"own.replace_loading(importlib.import_module({_RUNTIME!r})); import clients.app, clients.deployment.link;"
        "print({'torch', 'transformers', 'pandas', 'sklearn', 'opacus'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
