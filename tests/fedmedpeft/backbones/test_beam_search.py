"""Beam search over a table of probabilities, where the likeliest sequence can be found by looking at all of them."""

from __future__ import annotations

import itertools

import pytest
import torch

from fedmedpeft.backbones.beam_search import beam_search

START, END, PADDING, WORDS = 5, 4, 0, 6


def table(seed: int) -> torch.Tensor:
    """Log-probabilities [V, V] of the next token by the last one; never the start or the padding."""
    logits = 2 * torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(seed))
    logits[:, [PADDING, START]] = -torch.inf
    return logits.log_softmax(1)


def search(tables: torch.Tensor, beams: int, max_length: int, min_length: int = 1) -> list[list[int]]:
    """One sequence for each of ``tables`` [B, V, V], which travel as states."""

    def logits(tokens: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert bool(mask.all())
        return torch.stack([own[last] for own, last in zip(states, tokens, strict=True)])

    found = beam_search(
        logits,
        tables,
        torch.ones(tables.shape[:2], dtype=torch.bool),
        start=START,
        end=END,
        padding=PADDING,
        vocabulary=WORDS,
        beams=beams,
        max_length=max_length,
        min_length=min_length,
    )
    return found.tolist()


def likeliest(own: torch.Tensor, max_length: int) -> list[int]:
    """By trying all; transformers divides a sequence's log-probability by the tokens that were written."""
    best, chosen = -torch.inf, [START]
    for length in range(1, max_length):
        for words in itertools.product(range(1, START), repeat=length):
            if END in words[:-1] or (words[-1] != END and length < max_length - 1):
                continue
            path = [START, *words]
            score = sum(float(own[one, other]) for one, other in itertools.pairwise(path)) / length
            if score > best:
                best, chosen = score, path
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_wide_beams_find_the_likeliest_sequence(seed: int) -> None:
    (found,) = search(table(seed)[None], beams=64, max_length=4)
    assert found[: len(likeliest(table(seed), 4))] == likeliest(table(seed), 4)


def test_one_beam_takes_the_likeliest_word_each_time() -> None:
    own = table(1)
    (found,) = search(own[None], beams=1, max_length=5)
    for last, word in itertools.pairwise(found):
        if last in (END, PADDING):
            assert word == PADDING
        else:
            assert word == int(own[last].argmax())


def test_a_batch_is_its_members() -> None:
    tables = torch.stack([table(seed) for seed in range(4)])
    together = search(tables, beams=3, max_length=6)
    for own, found in zip(tables, together, strict=True):
        (alone,) = search(own[None], beams=3, max_length=6)
        assert found[: len(alone)] == alone
        assert set(found[len(alone) :]) <= {PADDING}


def test_shorter_answers_than_asked_for_are_not_written() -> None:
    own = torch.full((WORDS, WORDS), -9.0)
    own[:, END] = 0.0
    (short,) = search(own[None], beams=2, max_length=6)
    (long,) = search(own[None], beams=2, max_length=6, min_length=4)
    assert short == [START, END]
    assert long.index(END) == 4


def test_there_must_be_room_for_a_word() -> None:
    with pytest.raises(ValueError, match="max_length=1"):
        search(table(0)[None], beams=2, max_length=1)
