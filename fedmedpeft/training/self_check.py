"""DP-SGD checks itself: single records' gradients before the first step, and what the first step did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.units import Units
from fedmedpeft.tasks.task import Predictor
from fedmedpeft.training.per_record import watching
from fedmedpeft.training.private_refusal import PrivacyError

_UNITS = 3
_MOVED = 0.02
"""Standard deviation by which trainables are moved for the check: at their start many gradients are zero."""
_RELATIVE, _ABSOLUTE = 1e-2, 1e-4
"""What of a difference between two gradients of one parameter is rounding: shares of its norm, and of the largest norm
of any parameter."""

_checked: WeakKeyDictionary[Learner, dict[tuple[object, ...], tuple[str, ...]]] = WeakKeyDictionary()


def reached_trainables(predictor: Predictor, learner: Learner, split: Split, units: Units) -> tuple[str, ...]:
    """Names of the trainables that the loss depends on, after a check of their gradients for records of a few units.

    Hooks against one record at a time, with all trainables moved a little for it, and put back. Done once in a process
    for each learner and each set of what trains.

    Raises:
        PrivacyError: a parameter whose gradients for single records are missing or wrong.
    """
    names = tuple(name for name, t in learner.trainables.items() if t.parameter.requires_grad)
    key = (names, split.text is None, split.knowledge is None)
    known = _checked.setdefault(learner, {})
    if key not in known:
        rows = torch.stack([(units.of_row == unit).int().argmax() for unit in range(min(_UNITS, units.count))])
        learner.eval()  # dropout would give each way of computing the gradients masks of its own
        with _moved([learner.trainables[name].parameter for name in names]):
            known[key] = _compare(predictor, learner, split, rows, names)
    return known[key]


@contextmanager
def _moved(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    start = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in parameters:
            parameter.data += _MOVED * torch.randn(parameter.shape, generator=generator).to(parameter)
        yield
    finally:
        for parameter, values in zip(parameters, start, strict=True):
            parameter.data.copy_(values)


def _compare(
    predictor: Predictor, learner: Learner, split: Split, rows: torch.Tensor, names: Sequence[str]
) -> tuple[str, ...]:
    """Hooks on all ``rows`` at once against each alone; the names that any of them reaches."""
    generator = torch.Generator().manual_seed(0)

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        return len(chosen) * learner.task.loss(predictor, split, chosen, prior=None, generator=generator)

    parameters = [learner.trainables[name].parameter for name in names]
    alone = [torch.autograd.grad(loss(row), parameters, allow_unused=True) for row in rows.split(1)]
    expected = {
        name: torch.stack([torch.zeros_like(p) if each is None else each for each in gradients])
        for name, p, *gradients in zip(names, parameters, *alone, strict=True)
        if any(each is not None for each in gradients)
    }
    with watching(learner) as take:
        loss(rows).backward()
        found = take(len(rows))
    _refuse_difference(expected, found)
    return tuple(expected)


def _refuse_difference(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Records whose gradients are not finite say nothing; in training they add nothing to a sum."""
    norms = {name: gradients.flatten(1).norm(dim=1) for name, gradients in expected.items()}
    largest = torch.stack(list(norms.values())).amax(dim=0)
    finite = largest.isfinite()
    for name in expected.keys() | found.keys():
        if name in expected and name in found:
            difference = (found[name] - expected[name]).flatten(1).norm(dim=1)
            if (difference <= _RELATIVE * norms[name] + _ABSOLUTE * largest)[finite].all() and finite.any():
                continue
        raise PrivacyError(f"the gradients of single records are wrong for '{name}': nothing was trained")


def checked_step(learner: Learner, optimiser: torch.optim.AdamW, fresh: torch.optim.AdamW) -> None:
    """One step of ``optimiser``, which must move the learner exactly as one over its trainables as they are now.

    Args:
        learner: with gradients.
        optimiser: takes the step.
        fresh: an optimiser made now for the same learner in the same way; it is used up.

    Raises:
        PrivacyError: a trainable did not move as computed.
    """
    twins = {}
    for group, now in zip(fresh.param_groups, optimiser.param_groups, strict=True):
        group["lr"] = now["lr"]
        for index, parameter in enumerate(group["params"]):
            twin = parameter.detach().clone()
            twin.grad = parameter.grad
            moments = optimiser.state.get(parameter, {})
            fresh.state[twin] = {name: value.clone() for name, value in moments.items()}
            twins[parameter] = group["params"][index] = twin
    fresh.step()
    optimiser.step()
    for name, trainable in learner.trainables.items():
        if not torch.equal(trainable.parameter, twins[trainable.parameter]):
            raise PrivacyError(f"'{name}' did not move as computed: what was trained is not what was meant")


def still(learner: Learner) -> dict[str, int]:
    """How often torch has changed each tensor of the learner that does not train, by name."""
    tensors = dict(learner.named_buffers())
    tensors |= {name: parameter for name, parameter in learner.named_parameters() if not parameter.requires_grad}
    return {name: tensor._version for name, tensor in tensors.items()}
