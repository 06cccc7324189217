"""What can go wrong in a showing."""

from __future__ import annotations


class PocError(RuntimeError):
    """Something did not happen that should have. One line that says what, and where to look."""
