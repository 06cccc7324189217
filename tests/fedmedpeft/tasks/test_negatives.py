from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer

from fedmedpeft.tasks.negatives import Candidates, draw_negatives, find_candidates
from fedmedpeft.text import Text

START, END, PADDING = 1, 2, 0


def _text(sentences: list[list[int]]) -> Text:
    """Tokens between a start and an end, padded."""
    whole = [[START, *sentence, END] for sentence in sentences]
    longest = max(map(len, whole))
    ids = torch.tensor([sentence + [PADDING] * (longest - len(sentence)) for sentence in whole])
    mask = torch.tensor([[True] * len(sentence) + [False] * (longest - len(sentence)) for sentence in whole])
    return Text(ids, mask)


@st.composite
def captions(draw: st.DrawFn) -> tuple[torch.Tensor, list[list[int]]]:
    """Texts of few words, so that some are equal, and the image of each."""
    sentences = draw(st.lists(st.lists(st.integers(3, 7), min_size=1, max_size=3), min_size=1, max_size=14))
    images = st.lists(st.integers(0, len(sentences) - 1), min_size=len(sentences), max_size=len(sentences))
    return torch.tensor(draw(images)), sentences


@given(captions(), st.integers(1, 6), st.floats(0, 1), st.integers(0, 999))
def test_a_draw_holds_only_negatives_all_different_and_all_where_there_are_few(
    split: tuple[torch.Tensor, list[list[int]]], count: int, share: float, seed: int
) -> None:
    image_of, sentences = split
    hard = round(share * count)
    candidates = find_candidates(image_of, _text(sentences), hard)
    rows = torch.arange(len(sentences))
    drawn, present = draw_negatives(candidates, rows, count, hard, torch.Generator().manual_seed(seed))
    for row in rows.tolist():
        allowed = {
            other
            for other in range(len(sentences))
            if image_of[other] != image_of[row] and sentences[other] != sentences[row]
        }
        mine = drawn[row][present[row]].tolist()
        assert len(set(mine)) == len(mine) == min(count, len(allowed))
        assert set(mine) <= allowed
        near = set(candidates.nearest[row].tolist()) - {row}
        assert near <= allowed
        assert len(near & set(mine)) >= min(hard, len(near))


@given(captions())
def test_the_nearest_are_those_of_scikit_learn(split: tuple[torch.Tensor, list[list[int]]]) -> None:
    image_of, sentences = split
    counts = np.zeros((len(sentences), 8))
    for row, sentence in enumerate(sentences):
        np.add.at(counts[row], sentence, 1)
    counts = counts[:, counts.any(axis=0)]
    # Its idf is ours plus 1: taken out again by weighing with both.
    weights = TfidfTransformer(norm=None, smooth_idf=False).fit_transform(counts).toarray() - counts
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 1e-9)
    similar = unit @ unit.T
    candidates = find_candidates(image_of, _text(sentences), 1)
    similar[candidates.excluded(torch.arange(len(sentences))).numpy()] = 0
    for row, near in enumerate(candidates.nearest.tolist()):
        expected = np.sort(similar[row])[::-1][: len(near)]
        found = [similar[row, other] if other != row else 0.0 for other in near]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_padding_and_its_token_make_no_difference() -> None:
    short, long = _text([[3], [4], [3]]), _text([[3], [4], [3], [5, 6, 7]])
    other = Text(long.ids.masked_fill(~long.mask, 9), long.mask)
    image_of = torch.arange(4)
    assert find_candidates(image_of[:3], short, 0).wording.tolist() == [0, 1, 0]
    joined = Text(torch.cat([long.ids[:2], other.ids[2:]]), long.mask)
    assert find_candidates(image_of, joined, 0).wording.unique().tolist() == [0, 1, 2]
    one, two = (find_candidates(image_of, text, 2) for text in (long, other))
    assert torch.equal(one.wording, two.wording)
    assert torch.equal(one.nearest, two.nearest)


def test_hard_negatives_share_rare_words() -> None:
    text = _text([[3, 4], [3, 5], [3, 6], [4, 7], [8], [9], [3], [10]])
    candidates = find_candidates(torch.arange(8), text, 1)
    assert set(candidates.nearest[0].tolist()) == {3, 1, 2, 6}
    assert candidates.nearest[0, 0] == 3
    assert candidates.nearest[4].tolist() == [4] * 4  # shares nothing with any
    drawn = [
        draw_negatives(candidates, torch.tensor([0]), 2, 1, torch.Generator().manual_seed(seed))[0].tolist()[0]
        for seed in range(60)
    ]
    assert {pair[0] for pair in drawn} == {1, 2, 3, 6}
    assert {pair[1] for pair in drawn} == {1, 2, 3, 4, 5, 6, 7}


def test_a_draw_depends_on_the_generator_alone() -> None:
    candidates = find_candidates(torch.arange(9), _text([[number, number + 1] for number in range(3, 12)]), 2)
    rows = torch.tensor([4, 0, 4])
    once, again, other = (
        draw_negatives(candidates, rows, 4, 2, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_one_text_has_no_negatives() -> None:
    drawn, present = draw_negatives(
        Candidates(
            torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
        ),
        torch.tensor([0]),
        15,
        8,
        torch.Generator(),
    )
    assert drawn.shape == present.shape == (1, 0)
