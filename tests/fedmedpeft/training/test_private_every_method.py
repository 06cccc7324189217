"""A private step against a plain loop over records, for every method that can have one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import parse_composition
from fedmedpeft.methods import METHODS
from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.privacy.units import Unit, units_of
from fedmedpeft.tasks import build_task
from fedmedpeft.training import FeatureCache
from fedmedpeft.training.private import DpSgd, PrivacyError, refuse_private
from tests.every_method import BACKBONES, EVERY_METHOD, cases
from tests.private_sites import (
    Recorded,
    clipped_by_loop,
    config_of,
    difference,
    learner_of,
    norm,
    record_gradients,
    split_of,
)

_MORE = [
    "lora(factors='ffa')",
    "lora(dropout=0.3)",
    "lora+layernorm",
    "vpt-deep(project=4, dropout=0.2)+ssf",
    "adaptformer(dropout=0.1)",
    "kpl+layernorm",
]
_CASES = cases([*EVERY_METHOD, *_MORE])
_BATCHNORM = [("resnet", method) for method in ("bitfit", "blocks", "full")]


def _capable(case: tuple[str, str]) -> bool:
    return case not in _BATCHNORM and all(METHODS.build(spec).dp_capable for spec in parse_composition(case[1]))


def _apart(
    backbone: str,
    method: str,
    unit: Unit,
    physical_batch: int,
    *,
    knowledge: bool = False,
    task: str = "",
    double: bool = True,
    cache: FeatureCache | None = None,
) -> float:
    """A step with every unit in it and no noise, about half of them clipped: how far from the loop."""
    built = build_task(task, ("yes", "no", "left lung")) if task else None
    learner = learner_of(backbone, method, built, double=double)
    split = split_of(learner, knowledge=knowledge)
    dp = DpSgd(0.0, 1.0, 1.0, unit, records_per_unit=9, physical_batch=physical_batch, randomness=SeededRandomness(0))
    trainer = Recorded(learner, config_of(), dp=dp, cache=cache)
    records = record_gradients(trainer, split, range(len(split)))
    of_row = units_of(split, unit).of_row.tolist()
    units = [[row for row, mine in enumerate(of_row) if mine == each] for each in sorted(set(of_row))]
    clip = sorted(norm(record) for record in records)[len(records) // 2] * 0.9
    trainer.dp = DpSgd(**{**vars(dp), "clip": clip})
    trainer.train(split, first_step=0, steps=1, seed=0)
    return difference(trainer.sums[0], clipped_by_loop(records, units, clip))


@pytest.mark.parametrize(("backbone", "method"), [case for case in _CASES if _capable(case)])
def test_the_sum_of_clipped_means(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    name = str(request.getfixturevalue(BACKBONES[backbone]))
    assert _apart(name, method, "patient", 4) < 1e-9


@pytest.mark.parametrize(("backbone", "method"), [case for case in _CASES if not _capable(case)])
def test_the_others_are_refused_by_name(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    learner = learner_of(str(request.getfixturevalue(BACKBONES[backbone])), method)
    with pytest.raises(PrivacyError, match=method.partition("(")[0]) as raised:
        refuse_private(learner)
    assert "Choose another" in str(raised.value)


@pytest.mark.parametrize("unit", ["record", "image", "patient"])
@pytest.mark.parametrize("physical_batch", [1, 3, 64])
def test_units_and_physical_batches(tiny_backbone: Path, unit: Unit, physical_batch: int) -> None:
    assert _apart(str(tiny_backbone), "lora+layernorm", unit, physical_batch) < 1e-9


@pytest.mark.parametrize("method", ["kpl", "m3ad", "lora", "full", "prefix(cross=true)"])
def test_with_knowledge(tiny_meter: str, method: str) -> None:
    """The cross-attention is called a second time then."""
    assert _apart(tiny_meter, method, "image", 64, knowledge=True) < 1e-9


@pytest.mark.parametrize("method", ["head", "lora(where=fusion)"])
def test_with_what_was_kept_of_frozen_towers(tiny_meter: str, method: str) -> None:
    assert _apart(tiny_meter, method, "patient", 4, cache=FeatureCache()) < 1e-9


def test_questions_with_answers(tiny_meter: str) -> None:
    assert _apart(tiny_meter, "lora", "image", 3, task="vqa") < 1e-9


@pytest.mark.parametrize("method", ["lora", "layernorm", "houlsby(where=decoder)"])
def test_written_answers(tiny_backbone: Path, tiny_text_tower: Path, method: str) -> None:
    """Each answer's words are summed on their own: an answer's part depends neither on the others nor on padding."""
    name = f"encoder-decoder(vision='{tiny_backbone}', text='{tiny_text_tower}', text_length=16)"
    assert _apart(name, method, "image", 3, task="generation") < 1e-9


@pytest.mark.parametrize("backbone", ["vit", "meter"])
@pytest.mark.parametrize("method", ["head", "layernorm", "lora", "houlsby", "vpt-deep", "full"])
def test_in_float32(backbone: str, method: str, request: pytest.FixtureRequest) -> None:
    name = str(request.getfixturevalue(BACKBONES[backbone]))
    assert _apart(name, method, "patient", 4, double=False) < 1e-5
