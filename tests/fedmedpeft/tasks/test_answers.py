from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError
from fedmedpeft.tasks.answers import (
    LONGEST,
    MOST,
    UNKNOWN,
    check_vocabulary,
    frequent_answers,
    read_answers,
    soft_targets,
    usable,
)


def test_rare_answers_are_never_named() -> None:
    answers = ["yes", "no", "yes", "no", "yes", "a lesion of patient 4711"]
    assert frequent_answers(answers, 2) == {"no": 2, "yes": 3}
    assert frequent_answers(answers, 4) == {}
    assert list(frequent_answers(answers, 1)) == ["a lesion of patient 4711", "no", "yes"]


@given(
    st.lists(st.sampled_from(["yes", "no", "left lung", "Yes", " no", "x" * (LONGEST + 1), "a\nb", ""])),
    st.integers(1, 4),
)
def test_what_a_site_names_every_server_accepts(answers: list[str], least: int) -> None:
    named = frequent_answers(answers, least)
    assert all(answers.count(answer) == count >= least for answer, count in named.items())
    if named:
        check_vocabulary(list(named))


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([], "has 0 answers"),
        ([str(i) for i in range(MOST + 1)], "20,001 answers"),
        (["yes", "yes"], "twice"),
        (["x" * (LONGEST + 1)], "longer than 200"),
        (["a\x1b[2Jb"], "unprintable"),
        (["Yes"], "not normalised"),
        ([""], "empty"),
    ],
)
def test_what_can_be_no_vocabulary(answers: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_vocabulary(answers)


def test_a_list_is_read_in_its_order_without_empty_lines_and_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    path.write_text("Yes\n\n no. \nleft  lung\nyes\n")
    assert read_answers(path) == ("yes", "no", "left lung")
    assert all(map(usable, read_answers(path)))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"", b"\n\n", b"x" * 300])
def test_a_list_that_cannot_be_used_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "answers.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"answers=.*answers\.txt"):
        read_answers(path)


def test_targets_of_several_answers_and_of_none() -> None:
    ids = torch.tensor([[2, 0], [UNKNOWN, 1], [UNKNOWN, UNKNOWN]])
    targets = soft_targets(ids, torch.tensor([[1.0, 0.3], [0.6, 0.9], [1.0, 1.0]]), 3)
    torch.testing.assert_close(targets, torch.tensor([[0.3, 0, 1.0], [0, 0.9, 0], [0, 0, 0]]))
