"""Federated, parameter-efficient fine-tuning of frozen vision backbones for hospitals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmedpeft.portable import load_learner as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """``fedmedpeft.load`` is resolved at first use: importing the package must not import torch."""
    if name == "load":
        from fedmedpeft.portable import load_learner

        return load_learner
    raise AttributeError(f"module 'fedmedpeft' has no attribute '{name}'")
