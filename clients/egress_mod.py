"""The outermost mod of the ClientApp: what the site's gate let out is what leaves, whatever other mods do to it.

The gate itself is in the worker (:mod:`clients.egress.gate`), out of reach of the code that Flower starts.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Error, Message

from fedmedpeft.exchange import Refusal
from fedmedpeft.exchange import flower as wire

Next = Callable[[Message, Context], Message]
_ALTERED = "egress: the answer was changed after the site's gate"


def only_what_the_gate_let_out(message: Message, context: Context, call_next: Next) -> Message:
    """At a hospital refuse an answer without the seal that the worker gave it. A simulation has no gate."""
    reply = call_next(message, context)
    if reply.has_error() or "site-socket" not in context.node_config:
        return reply
    from clients.deployment.link import released

    if wire.seal(reply.content) not in released:
        return Message(Error(int(Refusal.EGRESS), _ALTERED), reply_to=message)
    return reply
