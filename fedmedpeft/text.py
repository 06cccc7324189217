"""Texts as a backbone reads them: tokens, and which of them are padding."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Text(NamedTuple):
    """Tokens of N texts.

    Attributes:
        ids: int64 [N, T].
        mask: bool [N, T]; True for a token, False for padding.
    """

    ids: torch.Tensor
    mask: torch.Tensor

    def rows(self, rows: torch.Tensor) -> Text:
        """Those of some rows, int64 [M]."""
        return Text(self.ids[rows], self.mask[rows])

    def to(self, device: torch.device | str) -> Text:
        """On another device."""
        return Text(self.ids.to(device), self.mask.to(device))
