"""How the worker's log looks: what a server wrote can neither pass for a line of it nor move the reader's cursor."""

from __future__ import annotations

import logging

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_CONTINUED = "    | "


class WorkerLog(logging.Formatter):
    """One line begins each entry; all others of it are indented, and what is not printable is written out.

    >>> print(WorkerLog("%(message)s").format(logging.makeLogRecord({"msg": "no key 'x\\nINFO all is well\\x1b[2J'"})))
    no key 'x
        | INFO all is well\\x1b[2J'
    """

    def __init__(self, form: str = _FORMAT) -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        first, *others = super().format(record).splitlines() or [""]
        return "\n".join([_plain(first), *(f"{_CONTINUED}{_plain(line)}" for line in others)])


def _plain(line: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\t" else ascii(sign)[1:-1] for sign in line)
