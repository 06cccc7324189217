"""Which projections a method acts on, as a person writes it: ``targets='q,v'``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from fedmedpeft.backbones import Role
from fedmedpeft.components import suggest

PROJECTIONS: tuple[Role, ...] = ("q", "k", "v", "o", "ffn_in", "ffn_out")
NORMS: tuple[Role, ...] = ("norm_pre", "norm1", "norm2", "norm")


def roles_of(targets: str, known: Sequence[Role]) -> tuple[Role, ...]:
    """The roles that ``targets`` names, in the order of :data:`Role`.

    Raises:
        ValueError: one of them is not among ``known``.
    """
    named = [target.strip() for target in targets.split(",")]
    for target in named:
        if target not in known:
            raise ValueError(f"no target '{target}'.{suggest(target, known)} Known: {', '.join(known)}")
    return tuple(role for role in get_args(Role) if role in named)
