"""Why a run ends early."""

from __future__ import annotations

import re

from fedmedpeft.components import ConfigError

LONGEST_REASON = 200
"""Characters of a site's own words that are kept."""

_LONGEST_FAILURE = 1000
"""Characters of the sentence with which a run failed, which holds the reasons of several sites."""

_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class FederationError(RuntimeError):
    """The federation cannot start or go on; the message says what happened and what to do."""


def safe_reason(text: str, longest: int = LONGEST_REASON) -> str:
    """The first line of what a site said, printable and at most ``longest`` characters.

    >>> safe_reason("out of memory\\nTraceback: ...")
    'out of memory'
    """
    lines = _TERMINAL_COLOUR.sub("", text).strip().splitlines()
    line = "".join(c if c.isprintable() else " " for c in lines[0]).strip() if lines else ""
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def failure_words(error: Exception) -> str:
    """Why a run failed, in one line. Only what was worded for people is quoted.

    >>> failure_words(KeyError("patient 4711"))
    "an error in the program (KeyError); the server's log has the details"
    """
    if isinstance(error, FederationError | ConfigError):
        return safe_reason(str(error), _LONGEST_FAILURE)
    return f"an error in the program ({type(error).__name__}); the server's log has the details"
