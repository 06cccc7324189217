"""What cannot be trained with DP-SGD, and why: said before anything is trained."""

from __future__ import annotations

from torch import nn

from fedmedpeft.learner import Learner, Trainable

_INSTEAD = "Choose another method, such as head, layernorm, lora, houlsby or vpt-deep (`fedmedpeft methods` says which)"


class PrivacyError(Exception):
    """A training that would not be as private as promised. Its text names nothing of a site's data and may leave it."""


def refuse_private(learner: Learner) -> None:
    """Refuse what gradients of single records cannot cover; a learner without weights will do.

    Raises:
        PrivacyError: names the method, task or parameter, and what to choose instead.
    """
    task = learner.task
    if not task.per_record:
        raise PrivacyError(
            f"task='{task.name}' cannot be trained with privacy: the loss of one of its records depends on other "
            "records. Choose another task, or privacy='off'."
        )
    for name, method in learner.methods:
        if method.keeps_statistics:
            raise PrivacyError(
                f"method='{name}' cannot be trained with privacy: it keeps statistics of a site's images, which no "
                f"bound on gradients covers. {_INSTEAD}, or privacy='off'."
            )
        if not method.dp_capable:
            raise PrivacyError(
                f"method='{name}' cannot be trained with privacy: one record's part in its gradient cannot be told "
                f"from the others'. {_INSTEAD}, or privacy='off'."
            )
    owners = owning_modules(learner)
    for name, trainable in learner.trainables.items():
        _refuse_parameter(name, trainable, owners.get(id(trainable.parameter), ()))


def owning_modules(learner: Learner) -> dict[int, tuple[nn.Module, ...]]:
    """The modules that have each trainable as a parameter of their own, by its id."""
    trained = {id(trainable.parameter) for trainable in learner.trainables.values()}
    owners: dict[int, tuple[nn.Module, ...]] = {}
    for module in learner.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in trained:
                owners[id(parameter)] = (*owners.get(id(parameter), ()), module)
    return owners


def _refuse_parameter(name: str, trainable: Trainable, owners: tuple[nn.Module, ...]) -> None:
    """Opacus computes a parameter's gradients from calls of the module that owns it, which must mix no records."""
    if not owners or any(isinstance(module, nn.ParameterDict | nn.ParameterList) for module in owners):
        why = "no module that is called with the batch owns it"
    elif any(True for module in owners for _ in module.buffers(recurse=False)):
        why = f"its module ({type(owners[0]).__name__}) has statistics or other buffers beside it"
    else:
        return
    raise PrivacyError(
        f"method='{trainable.owner}' trains '{name}', which cannot be done with privacy: {why}. {_INSTEAD}, or "
        "privacy='off'."
    )
