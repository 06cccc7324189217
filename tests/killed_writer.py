"""A process that writes, and is killed with SIGKILL at some point: what had it told by then?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable


def told_until_killed(write: Callable[[Callable[[int], None]], None], first: int, seconds: float) -> list[int]:
    """Numbers that a process of its own told before it was killed, ``seconds`` after the ``first`` few of them.

    Args:
        write: never returns; gives each number to its argument once that of which it is the number is done.
    """
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(lambda number: _tell(telling, number))
        finally:
            os._exit(1)
    os.close(telling)
    with os.fdopen(told) as file:
        before = [int(file.readline()) for _ in range(first)]
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        return before + [int(line) for line in file]


def _tell(telling: int, number: int) -> None:
    os.write(telling, f"{number}\n".encode())
