"""Why a run ends early."""

from __future__ import annotations

import re

LONGEST_REASON = 200
"""Characters of a site's own words that are kept."""

_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class FederationError(RuntimeError):
    """The federation cannot start or go on; the message says what happened and what to do."""


def safe_reason(text: str) -> str:
    """The first line of what a site said, printable and at most :data:`LONGEST_REASON` characters.

    >>> safe_reason("out of memory\\nTraceback: ...")
    'out of memory'
    """
    lines = _TERMINAL_COLOUR.sub("", text).strip().splitlines()
    line = "".join(c if c.isprintable() else " " for c in lines[0]).strip() if lines else ""
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."
