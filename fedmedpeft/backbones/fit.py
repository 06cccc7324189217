"""Tensors into a network: all of them, and nothing but them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from fedmedpeft.components import ConfigError

_SHOWN = 3


def fit(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> str:
    """Put ``tensors`` into ``model``, in float32, where every one has its place and every place its tensor.

    Returns:
        What is wrong, in words; empty where they fit. What does not fit is not put there.
    """
    own = model.state_dict()
    mismatched = [name for name, tensor in tensors.items() if name in own and own[name].shape != tensor.shape]
    # Copied, since tensors may be parts of one another, or lie in a file that is still on the disk.
    fitting = {
        name: tensor.to(torch.float32, copy=True)
        for name, tensor in tensors.items()
        if name in own and name not in mismatched
    }
    model.load_state_dict(fitting, strict=False, assign=True)
    return problems(own.keys() - tensors.keys(), tensors.keys() - own.keys(), mismatched)


def problems(
    missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[object], ignored: tuple[str, ...] = ()
) -> str:
    """Names of tensors as one line; empty where there are none.

    Args:
        missing: that the network has and the file lacks.
        unexpected: that the file has and the network lacks.
        mismatched: that both have, in different shapes.
        ignored: beginnings of names that a file may hold beside the network.
    """
    findings = {
        "missing": sorted(missing),
        "unknown": sorted(name for name in unexpected if not name.startswith(ignored)),
        "of another shape": sorted(str(name) for name in mismatched),
    }
    return "; ".join(f"{len(names)} tensors {what} ({_first(names)})" for what, names in findings.items() if names)


def refuse_non_finite(name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ConfigError where a value is infinite or no number."""
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"backbone='{name}': tensor '{key}' has values that are not finite. Fetch it again.")


def _first(names: list[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
