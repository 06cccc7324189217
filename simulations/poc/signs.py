"""What can be seen from outside: of the sites as the server knows them, of a site as its own people see it."""

from __future__ import annotations

import time
from collections import defaultdict

from clients.audit_log.audit_log import read_log
from clients.audit_log.events import Left, Repeated
from clients.processes.worker_door import worker_status
from clients.site_file import SiteFile
from server.processes.control import ServerError, list_sites
from server.processes.kit import ServerKit

_WELL_INTO = 0.5
"""Seconds after which a visit is neither about to begin nor only evaluated."""


def known_sites(kit: ServerKit) -> dict[str, str]:
    """Name -> status, of the registered sites; empty where the server does not answer."""
    try:
        return {site.name: site.status for site in list_sites(kit)}
    except ServerError:
        return {}


def is_training(site: SiteFile, round_: int) -> bool:
    """Whether the site's worker is in the middle of its visit of a round."""
    status = worker_status(site.socket)
    if status is None or status["busy"] != "visit" or status["round"] != round_:
        return False
    return time.time() - float(status["since"]) > _WELL_INTO


def answered_rounds(site: SiteFile) -> dict[int, list[str]]:
    """Of each round that the site has answered, what its audit log calls each answer: ``left`` or ``repeated``."""
    found: dict[int, list[str]] = defaultdict(list)
    if site.audit_log.is_file():
        for event in read_log(site.audit_log).entries:
            if isinstance(event, Left | Repeated) and event.request == "visit" and event.round is not None:
                found[event.round].append(event.kind)
    return dict(found)
