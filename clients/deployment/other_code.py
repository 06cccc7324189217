"""How the app that a server sent differs from the installed one: what Flower's process tells the worker of it.

A fixed vocabulary. The process that tells it talks to the network and may have been taken over, so the worker words all
of it anew, and a name counts for no more than what a file can be called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from clients.requests import KINDS, Kind
from fedmedpeft import __version__

APP = "clients.app:app"
PROJECT_NAME, PROJECT_FILE = "fedmedpeft", "pyproject.toml"

What = Literal[
    "not-compared",
    "unreadable",
    "too-many-files",
    "no-project",
    "unreadable-project",
    "name",
    "version",
    "component",
    "not-installed",
    "missing",
    "differs",
]
_WORDS: Mapping[What, str] = {
    "unreadable": "it cannot be read",
    "too-many-files": "it has too many files, or one of them twice",
    "no-project": f"{PROJECT_FILE} is missing or too large",
    "unreadable-project": f"{PROJECT_FILE} cannot be read",
    "name": f"its name is {{quoted}}, not {PROJECT_NAME}",
    "version": f"version {{quoted}}, and here {__version__}",
    "component": f"its ClientApp is not {APP}",
    "not-installed": "{quoted} is not installed",
    "missing": "{file} is missing",
    "differs": "{file} differs",
}
_SHOWN, _LONGEST = 100, 200
_OWN_FILE = re.compile(r"(clients|server)/[A-Za-z0-9_/]{1,150}\.py")


class Difference(BaseModel):
    """One, as a person reads it: ``str()`` of it. Its ``name`` may be the server's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: What
    name: str = Field("", max_length=_LONGEST)

    @classmethod
    def of(cls, what: What, name: object = "") -> Difference:
        return cls(what=what, name=str(name)[:_LONGEST])

    def __str__(self) -> str:
        quoted = _quoted(self.name)
        file = self.name if _OWN_FILE.fullmatch(self.name) else quoted
        return _WORDS.get(self.what, "").format(quoted=quoted, file=file)

    @property
    def reason(self) -> str:
        """Why nothing is answered: one line, fit for a log and for the server."""
        if self.what == "not-compared":
            return "the app that the server sent was not compared with the one installed here"
        return f"the app that the server sent is not the one installed here ({self})"


class Told(BaseModel):
    """That a message was refused in Flower's process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: Kind | Literal["other"]
    difference: Difference

    @classmethod
    def about(cls, message_type: str, difference: Difference) -> Told:
        """Of a message of Flower's type ``message_type``, such as ``train.visit``."""
        kind = message_type.partition(".")[2]
        return cls(request=next((known for known in KINDS if known == kind), "other"), difference=difference)


def _quoted(text: str) -> str:
    """What somebody else wrote, fit for a log and a message."""
    plain = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in text)
    return f"'{plain[:_SHOWN]}'"
