"""What no run can ask of a site, whatever its policy."""

from __future__ import annotations

import math
from pathlib import Path

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, VisitRequest
from fedmedpeft.methods import Rotation

LONGEST_NAME = 200
"""Bytes of a run's name, which is part of names of files."""
REHEARSAL = "dry-run-"
"""How the names begin under which a site keeps what it tries by itself."""


def check_run_name(run: str) -> None:
    """A run's name becomes a path here. Raises ContractError where it is no plain name."""
    if not run or run == ".." or Path(run).name != run or not run.isprintable():
        raise ContractError("the run's name is not a plain name")


def check_announced_name(run: str | None) -> None:
    """The name that a server gives a run, where a request has one. Raises ContractError."""
    if run is None:
        return
    check_run_name(run)
    if len(run.encode()) > LONGEST_NAME:
        raise ContractError(f"the run's name is longer than {LONGEST_NAME} bytes")
    if run.startswith(REHEARSAL):
        # What a dry run kept would be taken for an answer that had left before.
        raise ContractError(f"the run's name begins with '{REHEARSAL}'; it is for what a site tries by itself")


def check_visit(request: VisitRequest, config: RunConfig, rotation: Rotation) -> None:
    """What the server asks for must be something that this run can ask for. Raises ContractError."""
    if request.last and request.round != config.rounds + 1:
        # The test split is for the end of a run; each look at it before says more of it.
        raise ContractError(
            f"asks for the last visit in round {request.round}, which comes after round {config.rounds}"
        )
    if not 1 <= request.round <= config.rounds + request.last:
        raise ContractError(f"round {request.round} is not one of the {config.rounds} rounds of this run")
    if not (math.isfinite(request.proximal) and request.proximal >= 0):
        raise ContractError(f"proximal={request.proximal} is not 0 or more")
    train, wanted = rotation.read(request.train), 0 if request.last else rotation.count
    if len(train) != wanted:
        raise ContractError(f"asks to train {len(train)} groups of tensors, such a visit trains {wanted}")
