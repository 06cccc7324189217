"""Out of Flower's and Ray's log, the lines that a person wants to read."""

from __future__ import annotations

import re

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = re.compile(
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) *:"  # Flower's own log; an error is told by the run's status
    r"|\(\w.*\bpid=\d+"  # a process of Ray; what a site has to say comes through the server
    r"|\S+:\d+: \w*Warning:|\[\S+ [EWI] \d+"  # Python's and Ray's warnings
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\s(INFO|WARNING|ERROR)"
    r"|Error: "  # said by the ServerApp for the log; told at the end
    r"|Using SuperLink|Successfully (started|installed)|Flower App configuration warnings|- Recommended property"
)
_TABLE_ROW = re.compile(r" +(before|\d+) +[\d.-]+ +[\d.-]+ ")
_STARTED = re.compile(r"Successfully started run (\d+)")


def run_id(line: str) -> str | None:
    """The id in the line in which ``flwr run`` says that it has started one."""
    match = _STARTED.search(line)
    return match[1] if match else None


class PlainStream:
    """Reads a log line by line and gives back, without colours, what the ServerApp itself printed, or None."""

    def __init__(self) -> None:
        self._in_trace = False
        self._after_warning = False

    def plain(self, line: str) -> str | None:
        text = _COLOUR.sub("", line.rstrip("\r\n"))
        if text.startswith("Traceback (most recent call last)") or "Exit Code:" in text:
            # From here on Flower explains itself; the run's status has the sentence that matters.
            self._in_trace = True
        elif _TABLE_ROW.match(text):
            self._in_trace = False  # a failing actor leaves a trace while the run goes on
        indented_rest = self._after_warning and text.startswith("  ")
        self._after_warning = bool(re.match(r"\S+:\d+: \w*Warning:", text))
        if self._in_trace or indented_rest or _NOISE.match(text):
            return None
        return text
