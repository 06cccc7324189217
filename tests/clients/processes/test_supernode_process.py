from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import httpx
import pytest

from clients.processes.supernode_process import retry_proxy_errors

_RETRYING = "flwr.supercore.retry.http_retry"


def test_a_proxy_that_cannot_reach_the_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    retrying = importlib.import_module(_RETRYING)
    monkeypatch.setattr(retrying, "_RETRYABLE_TRANSPORT_ERRORS", retrying._RETRYABLE_TRANSPORT_ERRORS)
    answers = [httpx.ProxyError("500 Unable to connect"), httpx.ProxyError("502 Bad Gateway"), None]

    def ask() -> str:
        if error := answers.pop(0):
            raise error
        return "connected"

    def invoke() -> object:
        invoker = retrying.make_simple_http_retry_invoker()
        invoker.wait_function = lambda seconds: None
        return invoker.invoke(ask)

    with pytest.raises(httpx.ProxyError, match="500"):
        invoke()
    retry_proxy_errors(retrying)
    retry_proxy_errors(retrying)
    assert retrying._RETRYABLE_TRANSPORT_ERRORS.count(httpx.ProxyError) == 1
    answers.insert(0, httpx.ProxyError("500 Unable to connect"))
    assert invoke() == "connected"


def test_another_flower_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    other = ModuleType("retrying")
    retry_proxy_errors(other)
    assert "a proxy's errors end the SuperNode" in caplog.text
    assert not hasattr(other, "_RETRYABLE_TRANSPORT_ERRORS")


@pytest.mark.parametrize(
    ("ending", "code"), [("pass", 0), ("sys.exit(7)", 7), ("sys.exit('why')", 1), ("raise OSError('lost')", 1)]
)
def test_it_ends_with_threads_that_do_not(ending: str, code: int) -> None:
    program = f"""
import sys, threading
from clients.processes.supernode_process import run_to_the_end
def act():
    threading.Thread(target=threading.Event().wait).start()
    print("said", flush=False)
    {ending}
run_to_the_end(act, 0.1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert done.stdout == "said\n"
    assert ("OSError: lost" in done.stderr) == ("lost" in ending)
