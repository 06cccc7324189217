"""What of opacus is used here, imported without its logging: it gives the root logger a handler of its own, and every
library's lines would show twice. Importing this takes a second, so it is done where privacy is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _root_logger_as_it_is() -> Iterator[None]:
    handlers = list(logging.root.handlers)
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers


with _root_logger_as_it_is():
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
    from opacus.grad_sample.grad_sample_module import GradSampleHooks

__all__ = ["GradSampleHooks", "PRVAccountant", "compute_rdp", "get_privacy_spent"]
