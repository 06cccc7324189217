"""The egress gate: the last thing that an answer meets before it leaves a site. It refuses; it mends nothing.

An answer is encoded as it will travel, read back from those bytes, and held against what the site knows by itself. What
the gate cannot see are values: a tensor of the right length may encode anything in the bits of its numbers.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict

from clients.egress.record_rules import check_records
from clients.egress.refused import EgressRefused
from clients.egress.sent_bytes import SentBytes
from clients.egress.state_rules import check_initial, check_update
from clients.egress.terms import Terms
from clients.egress.withholding import SPLITS, TEST, Reply, withhold
from clients.policy_section import PolicySection
from fedmedpeft.exchange import (
    AnswersReply,
    Contract,
    ContractError,
    EncodedState,
    JoinReply,
    PeftState,
    ReferenceReply,
    Scores,
    SiteError,
    VisitReply,
)
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import Task

_log = logging.getLogger("fedmedpeft.site")
_DECODE: Mapping[type, Callable[[RecordDict], Reply]] = {
    AnswersReply: wire.decode_answers_reply,
    JoinReply: wire.decode_join_reply,
    VisitReply: wire.decode_visit_reply,
    ReferenceReply: wire.decode_reference_reply,
}


@dataclass(frozen=True)
class EgressGate:
    """Of one site, in one run.

    Args:
        section: the policy.
        site: its name.
        task: of the run, over its classes.
        fingerprint: of the backbone that the site loaded.
        sent: counts what leaves in a run; needed where the policy limits it.
    """

    section: PolicySection
    site: str
    task: Task
    fingerprint: str
    sent: SentBytes | None = None

    def let_out(self, reply: Reply, contract: Contract | None, received: PeftState | None, run: str = "") -> RecordDict:
        """What may leave: ``reply`` as read back from the very bytes that were checked.

        Args:
            reply: after :func:`clients.egress.withholding.withhold`.
            contract: of the tensors that may be in it; None where there may be none.
            received: the state that came with the request; for a JoinReply the one that all sites start from.
            run: its name, where the policy limits the bytes of a run.

        Raises:
            EgressRefused: it breaks a rule, or the gate failed. Nothing of it may leave then.
        """
        terms = Terms(self.section, self.site, self.fingerprint, self.task, contract, received)
        try:
            packed = wire.pack(wire.encode(reply))
            content, decoded = inspect(packed, type(reply), terms)
            if not _same(decoded, reply):
                raise EgressRefused("what is read back is not what was written")
            self._count(run, len(packed))
        except EgressRefused as refusal:
            _log.error("The answer does not leave: %s", refusal.reason)
            raise
        except Exception as error:
            _log.exception("The egress gate failed, and the answer does not leave.")
            raise EgressRefused("the check itself failed; the site's log has the details") from error
        return content

    def _count(self, run: str, number: int) -> None:
        most = self.section.most_bytes_of_run
        if not most or self.section.dry_run:
            return
        if self.sent is None or not run:
            raise EgressRefused("bytes of a run are limited, and it is not known which run this is of")
        self.sent.add(run, number, most)


def inspect(packed: bytes, reply: type, terms: Terms) -> tuple[RecordDict, Reply]:
    """Read an answer of kind ``reply`` from the bytes that would leave, and check all that is in them.

    Raises:
        EgressRefused: the bytes hold anything but such an answer, or one that the policy or the contract refuses.
    """
    if len(packed) > terms.section.most_bytes:
        raise EgressRefused(f"more bytes than may leave in a message (most-bytes: {terms.section.most_bytes})")
    try:
        content = wire.unpack(packed)
        check_records(content, reply, terms)
        decoded = _DECODE[reply](content)
    except ContractError as error:
        raise EgressRefused(f"it cannot be read back: {error}") from error
    if wire.pack(wire.encode(decoded)) != packed:
        raise EgressRefused("it holds more bytes than what is read from them")
    _check_kept_back(decoded, terms)
    if isinstance(decoded, VisitReply):
        _check_visit(decoded)
        if decoded.state:
            check_update(decoded.state, terms)
    elif isinstance(decoded, JoinReply) and decoded.state:
        check_initial(decoded.state, terms)
    return content, decoded


def _check_kept_back(reply: Reply, terms: Terms) -> None:
    """Raises EgressRefused where the policy keeps back anything that is still in ``reply``."""
    if isinstance(reply, ReferenceReply) and not terms.section.references:
        raise EgressRefused("scores of a reference, which this site does not train (references)")
    if isinstance(reply, ReferenceReply) and (TEST in reply.scores) == bool(reply.withheld):
        raise EgressRefused("a reference that is neither scored nor withheld")
    try:
        kept = withhold(reply, terms.section, terms.task)
    except SiteError as error:
        raise EgressRefused(error.reason) from error
    if not _same(kept, reply):
        raise EgressRefused("it holds what the policy keeps back")


def _check_visit(reply: VisitReply) -> None:
    """Each split that was asked for is scored or withheld, and no other. Raises EgressRefused."""
    asked = ("val",) if reply.state else SPLITS
    own = () if reply.state else tuple(f"own-{split}" for split in SPLITS)
    withheld = [name for name in reply.withheld.split(",") if name in SPLITS]
    if not set(reply.before) <= {*asked, *own} or not set(withheld) <= set(asked):
        raise EgressRefused("scores of a split that was not asked for")
    if any((split in reply.before) == (split in withheld) for split in asked):
        raise EgressRefused("a split that is neither scored nor withheld")
    if reply.state is None and not (math.isnan(reply.loss) and reply.steps == 0):
        raise EgressRefused("a training loss without training")


def _same(one: Any, other: Any) -> bool:
    """Bit for bit, nan and the type of every value included."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, Reply | Scores | EncodedState):
        return type(one) is type(other) and _same(vars(one), vars(other))
    return type(one) is type(other) and bool(one == other)
