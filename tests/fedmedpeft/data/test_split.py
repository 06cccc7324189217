from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.split import Split, join
from tests.fedmedpeft.data.words import Words


def images(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).clone()


def asked(values: list[int], image_of: list[int], questions: list[str], **changes: Any) -> Split:
    columns: dict[str, Any] = {
        "text": Words().encode(questions, 9),
        "questions": tuple(questions),
        "answers": ("yes",) * len(questions),
        "answer_types": ("closed",) * len(questions),
    }
    rows = np.arange(len(questions))
    labels = torch.zeros(len(questions), dtype=torch.int64)
    columns |= {"image_of": torch.tensor(image_of, dtype=torch.int64)}
    return Split(images(*values), labels, rows, **(columns | changes))


def test_without_more_each_row_is_an_image_of_its_own() -> None:
    split = Split(images(5, 6, 7), torch.tensor([0, 1, 0]), np.array([4, 8, 9]))
    assert split.image_of.tolist() == [0, 1, 2]
    assert len(split) == 3
    found, text, knowledge = split.batch(torch.tensor([2, 0]))
    assert torch.equal(found, split.images[[2, 0]])
    assert (text, knowledge) == (None, None)


def test_a_batch_brings_the_image_and_the_text_of_each_row() -> None:
    split = asked([5, 6], [0, 1, 0], ["a", "b c", "d"], knowledge=Words().encode(["x", "y", "z z z"], 9))
    found, text, knowledge = split.batch(torch.tensor([2, 1]))
    assert found[:, 0, 0, 0].tolist() == [5, 6]
    assert text is not None
    assert text.ids.tolist() == [[ord("d"), 0], [ord("b"), ord("c")]]
    assert knowledge is not None
    assert knowledge.mask.sum(1).tolist() == [3, 1]


def test_joined_rows_keep_their_images_and_their_texts() -> None:
    first, second = asked([5, 6], [0, 1, 0], ["a", "b c", "d"]), asked([7], [0, 0], ["e", "f g h"])
    empty = asked([], [], [])
    both = join([first, empty, second])
    assert both.image_of.tolist() == [0, 1, 0, 2, 2]
    assert both.images[both.image_of][:, 0, 0, 0].tolist() == [5, 6, 5, 7, 7]
    assert both.questions == ("a", "b c", "d", "e", "f g h")
    assert both.answers == ("yes",) * 5
    assert both.answer_types == ("closed",) * 5
    assert both.text is not None
    assert both.text.ids.shape == (5, 3)
    assert both.text.mask.sum(1).tolist() == [1, 2, 1, 1, 3]
    assert both.text.ids[4].tolist() == [ord("f"), ord("g"), ord("h")]
    assert both.knowledge is None


def test_texts_of_some_only_cannot_be_joined() -> None:
    with pytest.raises(DataError, match="cannot be pooled"):
        join([asked([5], [0], ["a"]), asked([5], [0], ["a"], text=None)])
