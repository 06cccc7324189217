"""Gradients of single records, by opacus' hooks on a learner that is left as it was found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedmedpeft.learner import Learner
from fedmedpeft.training.private_refusal import PrivacyError, owning_modules

Take = Callable[[int], dict[str, torch.Tensor]]

_ON_PARAMETERS = ("grad_sample", "_forward_counter", "_current_grad_sample")
_ON_MODULES = ("activations", "max_batch_len", "ft_compute_sample_grad", "autograd_grad_sample_hooks")


@contextmanager
def watching(learner: Learner) -> Iterator[Take]:
    """Within, ``backward`` of a sum over records keeps every record's gradient.

    Opacus watches modules in training mode alone, so owners of trainables are in it meanwhile; they hold no dropout
    (:class:`fedmedpeft.backbones.Inserted`). The learner is shared by simulated hospitals: whatever happens, no hook,
    attribute or gradient is left behind.

    Yields:
        What gives, after each ``backward``, the gradients [records, ...] of every trainable that it reached, by name.
        It raises PrivacyError where there are none, or of another number of records.

    Raises:
        PrivacyError: opacus refuses a module.
    """
    from fedmedpeft.privacy.quiet_opacus import GradSampleHooks

    owners = {module: module.training for modules in owning_modules(learner).values() for module in modules}
    try:
        for module in owners:
            module.training = True
        try:
            GradSampleHooks(learner, loss_reduction="sum")
        except NotImplementedError as error:
            raise PrivacyError("a trained module has buffers, which single records' gradients cannot cover") from error
        with warnings.catch_warnings():
            # Where the images are all that a module reads there is no gradient to pass on, and torch says so each time.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield lambda records: _take(learner, owners, records)
    finally:
        for handle in learner.__dict__.get("autograd_grad_sample_hooks", ()):
            handle.remove()
        _forget(learner)
        for module, training in owners.items():
            module.training = training


def _take(learner: Learner, owners: Iterable[nn.Module], records: int) -> dict[str, torch.Tensor]:
    for module in owners:
        module.__dict__.pop("activations", None)  # of calls that no gradient came back to
    found = {}
    for name, trainable in learner.trainables.items():
        parameter = trainable.parameter
        gradients = getattr(parameter, "grad_sample", None)
        parameter._forward_counter = 0  # type: ignore[attr-defined]
        if gradients is None and parameter.grad is None:
            continue
        if not isinstance(gradients, torch.Tensor) or len(gradients) != records:
            raise PrivacyError(f"the gradients of single records are missing for '{name}': nothing was trained")
        found[name] = gradients
        parameter.grad_sample = None  # type: ignore[attr-defined]
        parameter.grad = None
    return found


def _forget(learner: Learner) -> None:
    """All that opacus puts on parameters and modules, which its own clean-up leaves in part after an error."""
    for parameter in learner.parameters():
        parameter.grad = None
        for name in _ON_PARAMETERS:
            parameter.__dict__.pop(name, None)
    for module in learner.modules():
        for name in _ON_MODULES:
            module.__dict__.pop(name, None)
        if not module._backward_hooks:
            module._is_full_backward_hook = None
