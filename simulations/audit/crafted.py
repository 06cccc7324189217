"""A malicious server: a PEFT state that sorts tokens into bins, so that the update tells single ones.

Fowl et al., Robbing the Fed, ICLR 2022, showed it for a linear layer of the server's own; PEFTLeak, CVPR 2025 (arXiv
2506.04453), for adapters in a backbone of its own. Here the backbone is pinned: only an adapter's tensors are chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fedmedpeft.learner import Learner
from simulations.audit.adapter_tap import AdapterTap
from simulations.audit.site_update import Update, norm
from simulations.audit.token_places import TokenPlaces

_TRIALS = 240
_COVERED = (1.0, 0.5, 0.25, 0.12, 0.06)
"""Share of all tokens, the furthest along the direction, that the bins are spread over: of a large batch only few."""
_LEADING = (1, 2, 4, 8, 16, 64)
"""How many of the directions that tell positions apart best are mixed into a trial."""
_SHARPNESS = 16.0
"""Slope of a smooth activation's step, over the median width of a bin."""
_FAINT = 1e-6
"""Length of a row before ReLU, whose step is as sharp at any scale: so that the forward pass hardly notices."""
_EMPTY = 1e-4
"""A bin whose gradient is below this part of the largest holds no token."""


@dataclass(frozen=True)
class AdapterBins:
    """Rows of the down projection that all look along one direction, each from a threshold of its own.

    Row i passes a gradient for the tokens x above threshold i alone: G_i = sum c x and, of its bias, g_i = sum c, with
    the same c in every row since all columns of the up projection are one vector. Neighbours differ by the tokens
    between their thresholds: (G_i - G_i+1) / (g_i - g_i+1) is their mean, and the token itself where there is one.

    Attributes:
        tap: which adapter.
        direction: [d], of the tokens. thresholds: [b], rising, along it.
        lift: [d], every column of the up projection.
    """

    tap: AdapterTap
    direction: torch.Tensor
    thresholds: torch.Tensor
    lift: torch.Tensor

    @classmethod
    def aim(cls, tap: AdapterTap, tokens: torch.Tensor, places: TokenPlaces, lift: float, seed: int) -> AdapterBins:
        """The direction and thresholds that leave most tokens alone in their bins.

        Args:
            tokens: [M, T, d]: of M public batches, all tokens of a batch.
            lift: length of every column of the up projection. Far below one, gradients lie below AdamW's own epsilon,
                and its first step is linear in them; large, they are most of what DP-SGD clips.
        """
        generator = torch.Generator().manual_seed(seed)
        ranks = torch.arange(1, tap.width + 1, dtype=torch.float64) / (tap.width + 1)
        best, found = -1.0, (torch.zeros(0), torch.zeros(0))
        for trial in range(_TRIALS):
            direction = places.direction(_LEADING[trial % len(_LEADING)], generator)
            seen = tokens.double() @ direction
            covered = _COVERED[trial // len(_LEADING) % len(_COVERED)]
            thresholds = torch.quantile(seen.flatten(), 1 - covered * (1 - ranks))
            alone = _alone(seen, thresholds)
            if alone > best:
                best, found = alone, (direction, thresholds)
        column = torch.randn(tokens.shape[-1], generator=generator).double()
        return cls(tap, *found, lift * column / column.norm())

    @property
    def sharp(self) -> float:
        """Length of a row with which the bins have clear edges."""
        return _FAINT if self.tap.hard else _SHARPNESS / float(self.thresholds.diff().median())

    def state(self, scale: float | None = None) -> Update:
        """What replaces the adapter's tensors; all others stay as they are.

        Args:
            scale: length of a row; None: :attr:`sharp`. A shorter one lies nearer to what sites know, and blurs bins.
        """
        scale = self.sharp if scale is None else scale
        rows = scale * self.direction.expand(self.tap.width, -1)
        tensors = {
            "down.weight": rows,
            "down.bias": -scale * self.thresholds,
            "up.weight": self.lift[:, None].expand(-1, self.tap.width),
            "up.bias": torch.zeros_like(self.lift),
        }
        return {self.tap.name(name): value.float() for name, value in tensors.items()}

    def read(self, update: Update) -> torch.Tensor:
        """Tokens [K, d] from gradients, or from what AdamW's first step made of small ones."""
        weight = update[self.tap.name("down.weight")].cpu().double()
        bias = update[self.tap.name("down.bias")].cpu().double()
        between = torch.cat([weight[:-1] - weight[1:], weight[-1:]])
        count = torch.cat([bias[:-1] - bias[1:], bias[-1:]])
        told = count.abs() > _EMPTY * count.abs().max()
        return between[told] / count[told, None]

    def scale_within(self, learner: Learner, bound: float) -> float:
        """The longest rows, :attr:`sharp` at most, with which the state lies within ``bound`` of the learner's.

        0.0 where even the faintest do not.
        """
        own = {name: learner.trainables[name].parameter.detach().cpu() for name in self.state()}
        reach = bound**2 - norm({name: own[name] - value for name, value in self.state(0.0).items()}) ** 2
        length = float((self.tap.width + self.thresholds.square().sum()).sqrt())
        # Rows and thresholds are nearly orthogonal to the adapter's own random rows: half of what is left is safe.
        return min(self.sharp, math.sqrt(max(0.0, reach) / 2) / length)


def _alone(seen: torch.Tensor, thresholds: torch.Tensor) -> float:
    """Tokens of a batch that share their bin with no other: the mean over batches, of coordinates [M, T]."""
    bins = torch.bucketize(seen, thresholds)
    held = torch.zeros(len(seen), len(thresholds) + 1, dtype=seen.dtype).scatter_add_(1, bins, torch.ones_like(seen))
    # Below the first threshold no row passes a gradient.
    return float((held[:, 1:] == 1).sum(1).double().mean())


def install(learner: Learner, state: Update) -> None:
    """Write the tensors of ``state`` into the learner, as a site does with what the server sends."""
    with torch.no_grad():
        for name, value in state.items():
            learner.trainables[name].parameter.copy_(value)
