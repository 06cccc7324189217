"""How many runs may leave something at a site: a server could begin new ones until the disk is full."""

from __future__ import annotations

import logging
from pathlib import Path

from clients.deployment.first_visit import rehearsal_of
from fedmedpeft.exchange import Refusal, SiteError

_log = logging.getLogger("fedmedpeft.site")


def refuse_one_too_many(folder: Path, run: str, most: int) -> None:
    """Let ``run`` begin only where fewer than ``most`` runs have something below ``folder``; 0: always.

    Nothing is ever deleted to make room: a server could have that done to the run that matters.

    Raises:
        SiteError: it is one too many.
    """
    if not most or not run or not folder.is_dir():
        return
    kept = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    if len(kept) < most or {run, rehearsal_of(run)} & kept:
        return
    _log.warning(
        "'%s' holds %d runs (most-runs: %d), and another one is asked for. Delete the directories of those that are "
        "over, or raise policy.most-runs. The privacy ledger and the audit log lie elsewhere.",
        *(folder, len(kept), most),
    )
    raise SiteError(Refusal.POLICY, f"policy: it keeps as many runs as it may (most-runs: {most})")
