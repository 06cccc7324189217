"""Backbones of several networks, which are written as a component: ``meter(...)``, ``encoder-decoder(...)``."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from fedmedpeft.components import ConfigError, Options, Registry

Chosen = TypeVar("Chosen", bound=Options)


def composed_options(kind: str, options: type[Chosen], name: str, revision: str) -> Chosen | None:
    """The options in ``kind(...)``; None for the name of anything else.

    Args:
        kind: name of the component.
        options: what it has.
        name: the configured backbone.
        revision: the configured revision, which is of backbones of one network.

    Raises:
        ConfigError: a revision, an unknown option, or a value that does not fit.
    """
    if not _is_called(kind, name):
        return None
    if revision:
        raise ConfigError(
            f"backbone-revision='{revision}' is of one network, and '{kind}' has several. Write "
            f"{kind}(vision_revision=..., text_revision=...)."
        )
    known: Registry[Chosen] = Registry("backbone")
    known.register(kind, options)(lambda built: built)
    return known.build(name)


def _is_called(kind: str, name: str) -> bool:
    """Whether ``name`` is ``kind(...)``, and no directory."""
    called = name.strip()
    return (called == kind or (called.startswith(f"{kind}(") and called.endswith(")"))) and not Path(name).is_dir()
