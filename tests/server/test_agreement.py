"""Which answers are learnt, before anybody joins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, MetricRecord

from fedmedpeft.exchange import AnswersReply
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import build_task
from server import agreement
from server.agreement import agree_on_classes
from server.courier import Courier
from server.errors import FederationError
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

Reply = Callable[[Message], Message | None]


def naming(site: str, **counts: int) -> Reply:
    """A site with these training answers; blanks for underscores."""
    reply = AnswersReply(site, {name.replace("_", " "): count for name, count in counts.items()})
    return lambda message: Message(wire.encode(reply), reply_to=message)


def agree(
    tmp_path: Path, *replies: Reply, task: str = "vqa", **changes: Any
) -> tuple[tuple[str, ...] | None, list[str], Courier, LocalGrid]:
    def node(reply: Reply) -> Callable[[Message, Context], Message | None]:
        return lambda message, context: reply(message)

    said: list[str] = []
    config = script.run_config(tmp_path, task=task, **changes)
    grid = LocalGrid({11 + index: node(reply) for index, reply in enumerate(replies)})
    courier = Courier(grid, 0.1, said.append)
    return agree_on_classes(courier, config, build_task(task), "run", list(grid.nodes)), said, courier, grid


def test_the_vocabulary_is_the_sorted_sum_of_what_sites_name(tmp_path: Path) -> None:
    classes, said, courier, grid = agree(tmp_path, naming("a", yes=5, left_lung=2), naming("b", no=2, yes=3))
    assert classes == ("left lung", "no", "yes")
    assert "3 answers in the vocabulary that 2 sites agreed on" in said[-1]
    assert "cover 12 training questions" in said[-1]
    traffic = courier.traffic["answers"]
    assert (traffic.states, traffic.down) == (0, sum(wire.wire_bytes(message.content) for message in grid.log))
    assert traffic.up > 0
    assert "yes" not in "".join(said)


def test_nobody_is_asked_for_a_task_whose_classes_the_data_names(tmp_path: Path) -> None:
    classes, said, courier, grid = agree(tmp_path, naming("a", yes=5), task="classification")
    assert (classes, said, courier.traffic, grid.log) == (None, [], {}, [])


def test_nobody_is_asked_where_a_list_is_given(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("yes\nno\n")
    classes, said, _, grid = agree(tmp_path, naming("a", lung=5), task=f"vqa(answers='{tmp_path / 'answers.txt'}')")
    assert (classes, grid.log) == (("yes", "no"), [])
    assert "as given" in said[-1]


def _error(message: Message) -> Message | None:
    return script.refusing(message, None)


def _garbage(message: Message) -> Message | None:
    return script.garbage(message, None)


def _floats(message: Message) -> Message:
    content = wire.encode(AnswersReply("b", {"yes": 3}))
    content["counts.counts"] = MetricRecord({"no": [1, 2]})
    return Message(content, reply_to=message)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (_error, "too few images"),
        (_garbage, "no fields"),
        (lambda message: None, "no answer within"),
        (naming("a", no=3), "the name 'a' is taken"),
        (naming("../b", no=3), "its name is not"),
        (naming("b", no=1), "occurs less than 2 times"),
        (naming("b", no=-3), "occurs less than 2 times"),
        (naming("b", **{"x" * 201: 3}), "longer than 200"),
        (naming("b", **{"a\x1b[31mb": 3}), "unprintable"),
        (naming("b", No=3), "not normalised"),
    ],
)
def test_a_site_whose_list_cannot_be_used_adds_nothing(tmp_path: Path, reply: Reply, says: str) -> None:
    classes, said, _, _ = agree(tmp_path, naming("a", yes=5), reply)
    assert classes == ("yes",)
    line = next(line for line in said if "node 12" in line)
    assert says in line
    assert line.isprintable()


def test_counts_that_are_no_numbers_are_not_counted(tmp_path: Path) -> None:
    assert agree(tmp_path, naming("a", yes=5), _floats)[0] == ("yes",)


def test_without_a_frequent_answer_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"occurs 3 times at any of the 2 sites.*min_count.*answers='FILE'"):
        agree(tmp_path, naming("a"), naming("b"), task="vqa(min_count=3)")


def test_where_no_site_answers_their_reasons_are_given(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"No site could name.*node 11: data: too few images.*node 12"):
        agree(tmp_path, _error, _garbage)


def test_more_answers_than_a_head_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MOST", 2)
    with pytest.raises(FederationError, match=r"name 3 answers together \(a 2, b 1\), 2 at most"):
        agree(tmp_path, naming("a", yes=5, no=5), naming("b", maybe=5))
