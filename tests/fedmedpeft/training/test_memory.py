"""Batches that memory does not hold at once."""

from __future__ import annotations

import pytest
import torch

from fedmedpeft.training.memory import PhysicalBatch, out_of_memory


def test_a_batch_is_cut_until_it_fits_and_stays_so() -> None:
    tried: list[int] = []
    batch = PhysicalBatch()

    def compute(part: torch.Tensor, share: float) -> float:
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return share * float(part.sum())

    started: list[int] = []
    rows = torch.arange(10)
    expected = sum(float(part.sum()) * len(part) / 10 for part in rows.split(3))
    assert batch.fit(rows, compute, lambda: started.append(1)) == pytest.approx(expected)
    assert tried[:3] == [10, 5, 3]
    assert len(started) == 3
    tried.clear()
    batch.fit(rows, compute, lambda: None)
    assert max(tried) == 3


def test_one_row_that_does_not_fit_is_the_end() -> None:
    def never(part: torch.Tensor, share: float) -> float:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(RuntimeError, match="allocate"):
        PhysicalBatch().fit(torch.arange(4), never, lambda: None)


def test_other_errors_are_not_tried_again() -> None:
    tried = []

    def broken(part: torch.Tensor, share: float) -> float:
        tried.append(part)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        PhysicalBatch().fit(torch.arange(4), broken, lambda: None)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("x"), True),
        (RuntimeError("[enforce fail] not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory
