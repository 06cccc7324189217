"""How whatever goes wrong at a site is told to the server, and what stays in the site's log."""

from __future__ import annotations

import errno

from clients.audit_log.audit_log import AuditLogError
from clients.egress.refused import safe_refusal
from fedmedpeft.exchange import ContractError, Refusal, SiteError
from fedmedpeft.training.memory import out_of_memory

_FULL = (errno.ENOSPC, errno.EDQUOT)


def refusal_of(error: BaseException) -> SiteError:
    """What the server is told of ``error``."""
    if isinstance(error, SiteError):
        return safe_refusal(error)
    if isinstance(error, ContractError):
        return safe_refusal(SiteError(Refusal.CONTRACT, str(error)))
    if isinstance(error, AuditLogError):
        return SiteError(Refusal.DISK, error.public)
    if isinstance(error, OSError) and error.errno in _FULL:
        return SiteError(Refusal.DISK, "the site's disk is full")
    if out_of_memory(error):
        return SiteError(Refusal.MEMORY, "the site ran out of memory")
    return SiteError(Refusal.INTERNAL, "internal error; the site's log has the details")


def detail_of(error: BaseException) -> BaseException | None:
    """What the site's own log shows beside a refusal: its cause, or what nobody foresaw."""
    return error.__cause__ if isinstance(error, SiteError | ContractError) else error
