"""Ask sites and gather their answers: every failure becomes a reason, every byte is counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedmedpeft.exchange import Refusal
from fedmedpeft.exchange import flower as wire
from server.errors import safe_reason

Say = Callable[[str], None]
"""Takes one line for the person who watches."""

# A node that starts late on a message must still be able to send its reply, if only to be told that it is too late.
_GRACE = 60.0
_FIRST_REMINDER = 60.0
_LONGEST_PAUSE = 3.0
# How Flower words an exception: its class, then its text.
_EXCEPTION = re.compile(r"<class '([\w.]{1,80})'>")
_REFUSALS = {int(refusal): refusal.name.lower() for refusal in Refusal} | {
    Refusal.EGRESS: "egress gate",
    Refusal.LATER: "outside its hours",
    Refusal.CODE: "other code",
    Refusal.REPEATED: "repeated round",
    Refusal.DRY_RUN: "dry run",
    Refusal.UNREACHABLE: "its worker is not there",
}
"""What a site's refusal is called in tables."""


@dataclass
class Traffic:
    """Bytes in both directions as encoded, and how many PEFT states were among them."""

    down: int = 0
    up: int = 0
    states: int = 0

    @property
    def total(self) -> int:
        return self.down + self.up


@dataclass(frozen=True)
class Answer:
    """What came back from one node: content, or why there is none."""

    content: RecordDict | None
    failure: str = ""
    down: int = 0
    up: int = 0
    seconds: float = 0.0


@dataclass
class Courier:
    """Sends requests to nodes and waits for the answers, at most ``timeout`` seconds.

    Args:
        grid: Flower's.
        timeout: seconds for a round.
        say: told when sites keep the others waiting.
        names: node to site name, once known.
        traffic: per phase (``answers``, ``join``, ``references``, ``rounds``, ``final``).
    """

    grid: Grid
    timeout: float
    say: Say
    names: dict[int, str] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=dict)

    def ask(
        self, phase: str, kind: str, requests: Mapping[int, wire.AnyMessage], *, group: str = "", patience: float = 1.0
    ) -> dict[int, Answer]:
        """Send one request to each node; returns an answer for every node asked.

        Args:
            phase: whose traffic this is.
            kind: Flower message type.
            requests: by node; equal objects are encoded once.
            group: shown in Flower's records, usually the round.
            patience: multiplies the timeout.
        """
        timeout = self.timeout * patience
        messages, down = self._messages(kind, requests, group, timeout)
        began = time.monotonic()
        pushed = {id_ for id_ in self.grid.push_messages(messages) if id_}
        open_ = {m.metadata.message_id: m.metadata.dst_node_id for m in messages if m.metadata.message_id in pushed}
        answers = {node: Answer(None, "the request could not be handed to Flower's SuperLink") for node in requests}
        for node in open_.values():
            answers[node] = Answer(None, f"no answer within {timeout:g} s", down[node])
        reminder = _FIRST_REMINDER
        while open_:
            for reply in self._pull(open_, answers, down):
                # An error that Flower makes in place of a lost node does not name the node as its sender.
                if reply.metadata.reply_to_message_id in open_:
                    node = open_.pop(reply.metadata.reply_to_message_id)
                    answers[node] = _answer(reply, down[node], time.monotonic() - began)
            elapsed = time.monotonic() - began
            if not open_ or elapsed > timeout:
                break
            if elapsed > reminder:
                self.say(f"  still waiting for {self._named(open_.values())} after {elapsed:.0f} s")
                reminder *= 2
            # Waiting costs at most a tenth of the time that sites work.
            time.sleep(min(_LONGEST_PAUSE, max(0.05, elapsed / 10), max(0.0, timeout - elapsed)))
        self._count(phase, kind, requests, answers)
        return answers

    def _pull(self, open_: dict[str, int], answers: dict[int, Answer], down: Mapping[int, int]) -> list[Message]:
        """The replies that are there. One at a time: bytes that cannot be read cost their own site's answer alone."""
        replies: list[Message] = []
        for id_ in list(open_):
            try:
                replies += self.grid.pull_messages([id_])
            except (ValueError, TypeError, KeyError) as error:
                node = open_.pop(id_)
                answers[node] = Answer(None, f"the reply cannot be read ({type(error).__name__})", down[node])
        return replies

    def _messages(
        self, kind: str, requests: Mapping[int, wire.AnyMessage], group: str, timeout: float
    ) -> tuple[list[Message], dict[int, int]]:
        contents = {id(request): wire.encode(request) for request in requests.values()}
        sizes = {key: wire.wire_bytes(content) for key, content in contents.items()}
        messages = [
            Message(contents[id(request)], node, kind, ttl=timeout + _GRACE, group_id=group)
            for node, request in requests.items()
        ]
        return messages, {node: sizes[id(request)] for node, request in requests.items()}

    def _count(
        self, phase: str, kind: str, requests: Mapping[int, wire.AnyMessage], answers: Mapping[int, Answer]
    ) -> None:
        traffic = self.traffic.setdefault(phase, Traffic())
        for answer in answers.values():
            traffic.down += answer.down
            traffic.up += answer.up
            traffic.states += answer.down > 0 and kind == wire.VISIT
            traffic.states += answer.content is not None and len(answer.content.array_records) > 0

    def _named(self, nodes: Iterable[int]) -> str:
        return ", ".join(sorted(self.names.get(node, f"node {node}") for node in nodes))


def _answer(reply: Message, down: int, seconds: float) -> Answer:
    if reply.has_error():
        return Answer(None, _reason(reply.error.code, reply.error.reason or ""), down, 0, seconds)
    return Answer(reply.content, "", down, wire.wire_bytes(reply.content), seconds)


def _reason(code: int, words: str) -> str:
    """A site's own refusals were worded to be shown. An exception's text was not: only its type is kept."""
    if code in _REFUSALS:
        kind = _REFUSALS[code]
        said = words.strip().removeprefix(f"{kind}:").strip()
        return safe_reason(f"{kind}: {said or 'no reason given'}")
    if code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION:
        raised = _EXCEPTION.match(words)
        return f"the ClientApp raised {raised[1] if raised else 'an exception'}; the site's log has the details"
    return safe_reason(f"Flower error {code}: {words.strip() or 'no reason given'}")
