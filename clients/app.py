"""The Flower ClientApp: turns Flower's messages into requests for the site worker, and its answers into replies.

Light to import (no torch): in deployment Flower starts a new process for every message. It holds no data, no backbone
and no keys, and whatever goes wrong leaves the site as a code and a safe sentence, never as an exception's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.egress_mod import only_what_the_gate_let_out
from fedmedpeft.exchange import ContractError, Refusal, SiteError

app = ClientApp(mods=[only_what_the_gate_let_out])
_log = logging.getLogger("fedmedpeft.site")

Ask = Callable[[str, RecordDict], RecordDict]
"""Takes the kind of a request and its content, gives the content of the answer."""


@app.query("answers")
def answers(message: Message, context: Context) -> Message:
    """Name frequent training answers; see AnswersRequest and AnswersReply."""
    return _answer(message, context, "answers")


@app.query("join")
def join(message: Message, context: Context) -> Message:
    """Introduce the site; see JoinRequest and JoinReply."""
    return _answer(message, context, "join")


@app.train("visit")
def visit(message: Message, context: Context) -> Message:
    """Evaluate and train in one visit; see VisitRequest and VisitReply."""
    return _answer(message, context, "visit")


@app.train("reference")
def reference(message: Message, context: Context) -> Message:
    """Train a reference that stays at the site; see ReferenceRequest and ReferenceReply."""
    return _answer(message, context, "reference")


def _answer(message: Message, context: Context, kind: str) -> Message:
    try:
        return Message(_site(context)(kind, message.content), reply_to=message)
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


def _site(context: Context) -> Ask:
    """The worker of this hospital, behind its socket; or of this simulated one, in this process."""
    socket = context.node_config.get("site-socket")
    if isinstance(socket, str):
        from clients.deployment.link import SiteLink

        return SiteLink(Path(socket), dict(context.run_config)).ask
    index, count = context.node_config.get("partition-id"), context.node_config.get("num-partitions")
    if not isinstance(index, int) or not isinstance(count, int):
        raise SiteError(
            Refusal.CONFIGURATION, "the node has neither site-socket nor partition-id and num-partitions to start with"
        )
    from clients.simulated_site import simulated_site

    return simulated_site(dict(context.run_config), index, count)
