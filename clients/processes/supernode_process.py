"""What runs in place of Flower's ``flower-supernode`` at a site: the same process, which outlives a proxy's bad moment.

Flower tries again where a server cannot be reached, but not where a proxy says so; then it gives up. And one that gives
up does not end: a thread of it goes on, so that nothing starts it again.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import ModuleType

import httpx

_RETRYING = "flwr.supercore.retry.http_retry"
_ERRORS = "_RETRYABLE_TRANSPORT_ERRORS"
_FAREWELL = 10.0
"""Seconds that threads have to end once there is nothing left to do for them."""
_log = logging.getLogger("fedmedpeft.site")


def retry_proxy_errors(retrying: ModuleType) -> None:
    """Have Flower's module ``retrying`` take a proxy that cannot reach the server for a server that cannot be reached.

    Where Flower has changed nothing is: the process then gives up as Flower's own does, and is started again.
    """
    known = getattr(retrying, _ERRORS, None)
    if not isinstance(known, tuple) or httpx.ConnectError not in known:
        _log.warning("Flower tries again by other rules than expected: a proxy's errors end the SuperNode.")
        return
    setattr(retrying, _ERRORS, (*dict.fromkeys((*known, httpx.ProxyError)),))


def run_to_the_end(act: Callable[[], object], farewell: float = _FAREWELL) -> None:
    """Call ``act`` and end this process, with the exit code that it would have: with all its threads, which have
    ``farewell`` seconds for that.
    """
    code = 0
    try:
        act()
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    until = time.monotonic() + farewell
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(until - time.monotonic(), 0.0))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """With the arguments of ``flower-supernode``."""
    retry_proxy_errors(importlib.import_module(_RETRYING))
    from flwr.supernode.cli import flower_supernode

    run_to_the_end(flower_supernode)


if __name__ == "__main__":
    main()
