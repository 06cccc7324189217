"""What a check is, and how a list of them is run: one that fails stops none but those that build on it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from clients.preflight.facts import Facts
from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError

Status = Literal["pass", "warn", "fail", "skip"]

# From a path's first word to the end of it, quoted or not. Names of folders may have spaces: rather too much is cut.
_PATH = re.compile(r"""[^\s'"=(,:]*[/\\][^'",;)\n]*?(?=['",;)\n]|: |\.\s|\.?$)""")


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        text: one sentence that may leave the site: no path, no file name, no patient; counts only.
        fix: how to mend it; empty where nothing is to be mended.
        details: for the site's own eyes; shown on request alone.
    """

    status: Status
    text: str
    fix: str = ""
    details: tuple[str, ...] = ()


def passed(text: str, *details: str) -> Result:
    return Result("pass", text, details=details)


def warned(text: str, fix: str, *details: str) -> Result:
    return Result("warn", text, fix, details)


def failed(text: str, fix: str, *details: str) -> Result:
    return Result("fail", text, fix, details)


def skipped(text: str, fix: str = "") -> Result:
    return Result("skip", text, fix)


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: of the line. title: what it looks at, shown while it runs.
        look: does it, and leaves in the facts what later checks build on.
        needs: names of earlier checks that must not have failed.
    """

    name: str
    title: str
    look: Callable[[Facts], Result]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A check that was made, and how many seconds it took."""

    check: Check
    result: Result
    seconds: float


def run_checks(checks: Sequence[Check], facts: Facts, started: Callable[[Check], None]) -> list[Finding]:
    """Make every check in order. ``started`` is told before each."""
    findings: list[Finding] = []
    missing: dict[str, str] = {}
    for check in checks:
        began = time.perf_counter()
        blocked = next((need for need in check.needs if need in missing), None)
        if blocked is not None:
            missing[check.name] = missing[blocked]
            result = skipped(f"not checked: it builds on '{missing[blocked]}'.", f"Mend '{missing[blocked]}' first.")
        else:
            started(check)
            result = _look(check, facts)
            if result.status in ("fail", "skip"):
                missing[check.name] = check.name
        findings.append(Finding(check, result, time.perf_counter() - began))
    return findings


def _look(check: Check, facts: Facts) -> Result:
    try:
        return check.look(facts)
    except DataError as error:
        return failed(error.public, "Correct the data; --details says where.", str(error))
    except ConfigError as error:
        return failed(without_paths(str(error)), "Correct it; --details shows the names that are left out.", str(error))
    except Exception as error:
        # An error's text may hold anything, also names of files; one check that breaks must not hide the others.
        told = f"{type(error).__name__}: {error}"
        return failed(f"the check itself broke ({type(error).__name__}).", "--details shows more.", told)


def without_paths(text: str) -> str:
    """``text`` with every path in it left out: paths and file names may name patients or wards."""
    return _PATH.sub("[path]", " ".join(text.split()))
