"""The Flower ClientApp: turns Flower's messages into requests for the site worker, and its answers into replies.

Light to import (no torch): in deployment Flower starts a new process for every message. It holds no data, no backbone
and no keys, and whatever goes wrong leaves the site as a code and a safe sentence, never as an exception's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmedpeft.exchange import ContractError, Refusal, SiteError
from fedmedpeft.exchange import flower as wire

if TYPE_CHECKING:
    from clients.worker import SiteWorker

app = ClientApp()
_log = logging.getLogger("fedmedpeft.site")


@app.query("answers")
def answers(message: Message, context: Context) -> Message:
    """Name frequent training answers; see AnswersRequest and AnswersReply."""
    return _answer(
        message, context, lambda site, content: wire.encode(site.answers(wire.decode_answers_request(content)))
    )


@app.query("join")
def join(message: Message, context: Context) -> Message:
    """Introduce the site; see JoinRequest and JoinReply."""
    return _answer(message, context, lambda site, content: wire.encode(site.join(wire.decode_join_request(content))))


@app.train("visit")
def visit(message: Message, context: Context) -> Message:
    """Evaluate and train in one visit; see VisitRequest and VisitReply."""
    return _answer(message, context, lambda site, content: wire.encode(site.visit(wire.decode_visit_request(content))))


@app.train("reference")
def reference(message: Message, context: Context) -> Message:
    """Train a reference that stays at the site; see ReferenceRequest and ReferenceReply."""
    return _answer(
        message, context, lambda site, content: wire.encode(site.reference(wire.decode_reference_request(content)))
    )


def _answer(message: Message, context: Context, act: Callable[[SiteWorker, RecordDict], RecordDict]) -> Message:
    try:
        return Message(act(_site_worker(context), message.content), reply_to=message)
    except SiteError as refusal:
        _log.warning("Refused (%s): %s", refusal.code.name, refusal.reason, exc_info=refusal.__cause__)
        return Message(Error(int(refusal.code), refusal.reason), reply_to=message)
    except ContractError as breach:
        _log.warning("Refused what the server sent: %s", breach)
        return Message(Error(int(Refusal.CONTRACT), str(breach)), reply_to=message)
    except Exception:
        # The details may name files or patients: they stay in the site's own log.
        _log.exception("The site could not answer.")
        return Message(Error(int(Refusal.INTERNAL), "internal error; the site's log has the details"), reply_to=message)


def _site_worker(context: Context) -> SiteWorker:
    """The worker of this simulated hospital, in this process."""
    from clients.simulated_site import simulated_site

    index, count = context.node_config.get("partition-id"), context.node_config.get("num-partitions")
    if not isinstance(index, int) or not isinstance(count, int):
        raise SiteError(Refusal.CONFIGURATION, "the node has no partition-id and num-partitions; start it with both")
    return simulated_site(dict(context.run_config), index, count)
