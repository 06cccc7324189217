from __future__ import annotations

import pytest
from flwr.app import Context, Error, Message, RecordDict

from fedmedpeft.exchange import JoinReply, JoinRequest, Refusal
from fedmedpeft.exchange import flower as wire
from server.courier import Courier, Traffic
from simulations.local_grid import LocalGrid, Node
from tests.server.scripted_sites import PATIENT, raising, refusing

REPLY = JoinReply("site", "a\nb", False, "f", "m", "s", {"train": 1})


def good(message: Message, context: Context) -> Message:
    return Message(wire.encode(REPLY), reply_to=message)


def courier(nodes: dict[int, Node], said: list[str] | None = None) -> Courier:
    return Courier(LocalGrid(nodes), 0.1, [].append if said is None else said.append)


def test_every_node_gets_an_answer_or_a_reason() -> None:
    nodes: dict[int, Node] = {
        1: good,
        2: lambda message, context: raising(message, None),
        3: lambda message, context: refusing(message, None),
        4: lambda message, context: None,
    }
    answers = courier(nodes).ask("join", wire.JOIN, dict.fromkeys(nodes, JoinRequest("run", False)))
    content = answers[1].content
    assert content is not None
    assert wire.decode_join_reply(content) == REPLY
    assert {node: answer.failure for node, answer in answers.items()} == {
        1: "",
        2: "the ClientApp raised RuntimeError; the site's log has the details",
        3: "data: too few images can be read",
        4: "no answer within 0.1 s",
    }
    assert PATIENT not in str(answers)


def test_bytes_are_those_of_the_encoded_content_and_failures_cost_what_was_sent() -> None:
    nodes: dict[int, Node] = {1: good, 2: lambda message, context: None}
    sender = courier(nodes)
    sent = wire.wire_bytes(wire.encode(JoinRequest("run", False)))
    back = wire.wire_bytes(wire.encode(REPLY))
    answers = sender.ask("join", wire.JOIN, dict.fromkeys(nodes, JoinRequest("run", False)))
    assert (answers[1].down, answers[1].up) == (sent, back)
    assert (answers[2].down, answers[2].up) == (sent, 0)
    assert sender.traffic == {"join": Traffic(down=2 * sent, up=back, states=0)}


def test_a_lost_node_is_known_by_the_message_it_did_not_answer() -> None:
    def lost(message: Message, context: Context) -> Message:
        reply = refusing(message, None)
        reply.metadata.__dict__["_src_node_id"] = 1
        return reply

    answers = courier({7: lost, 8: good}).ask("join", wire.JOIN, dict.fromkeys((7, 8), JoinRequest("run", False)))
    assert answers[7].failure == "data: too few images can be read"
    assert answers[8].content is not None


def test_a_request_that_flower_will_not_take_is_a_failure() -> None:
    class FullGrid(LocalGrid):
        def push_messages(self, messages):  # type: ignore[no-untyped-def]
            return [None for _ in messages]

    sender = Courier(FullGrid({1: good}), 0.1, [].append)
    answer = sender.ask("join", wire.JOIN, {1: JoinRequest("run", False)})[1]
    assert "could not be handed" in answer.failure
    assert (answer.down, sender.traffic["join"].total) == (0, 0)


def test_who_keeps_the_others_waiting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.courier._FIRST_REMINDER", 0.02)
    said: list[str] = []
    sender = courier({1: good, 2: lambda message, context: None}, said)
    sender.names[2] = "hospital-b"
    sender.ask("join", wire.JOIN, dict.fromkeys((1, 2), JoinRequest("run", False)))
    assert said
    assert all("still waiting for hospital-b" in line for line in said)


def test_messages_live_a_little_longer_than_the_wait() -> None:
    sender = courier({1: good})
    sender.ask("join", wire.JOIN, {1: JoinRequest("run", False)}, group="3", patience=5)
    grid = sender.grid
    assert isinstance(grid, LocalGrid)
    assert grid.log[0].metadata.ttl == pytest.approx(60.5)
    assert grid.log[0].metadata.group_id == "3"
    assert isinstance(grid.log[0].content, RecordDict)


@pytest.mark.parametrize(
    ("code", "words", "shown"),
    [
        (Refusal.LATER, "trains only 20:00-06:00", "outside its hours: trains only 20:00-06:00"),
        (Refusal.DRY_RUN, "dry run: nothing was sent", "dry run: nothing was sent"),
        (Refusal.POLICY, "policy: method 'full' is not allowed here", "policy: method 'full' is not allowed here"),
        (Refusal.EGRESS, "norm above the ceiling", "egress gate: norm above the ceiling"),
        (Refusal.UNREACHABLE, "", "its worker is not there: no reason given"),
        (Refusal.MEMORY, "out of memory\nTraceback", "memory: out of memory"),
    ],
)
def test_a_refusal_is_shown_in_words(code: Refusal, words: str, shown: str) -> None:
    def refuse(message: Message, context: Context) -> Message:
        return Message(Error(int(code), words), reply_to=message)

    assert courier({1: refuse}).ask("join", wire.JOIN, {1: JoinRequest("run", False)})[1].failure == shown
