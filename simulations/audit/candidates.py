"""A curious server that holds images of its own: which of them were in the step? Nothing is rebuilt for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls

from fedmedpeft.learner import Learner
from simulations.audit.site_update import Batch, Update, mean_gradient

_ROUNDING = 1e-6


@dataclass(frozen=True)
class CandidateGradients:
    """What each of N candidates would have sent alone.

    Attributes:
        gradients: by name of the exchanged tensor, [N, size of the tensor].
        products: by name, their inner products, float64 [N, N].
    """

    gradients: Update
    products: Update

    @classmethod
    def of(cls, learner: Learner, candidates: Batch, names: Iterable[str]) -> CandidateGradients:
        """In the state that the learner is in."""
        kept = list(names)
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in kept}
        for row in range(len(candidates)):
            one = Batch(candidates.images[row : row + 1], candidates.labels[row : row + 1])
            for name, value in mean_gradient(learner, one, kept).items():
                rows[name].append(value.flatten().cpu())
        gradients = {name: torch.stack(values) for name, values in rows.items()}
        products = {name: (value @ value.T).double() for name, value in gradients.items()}
        return cls(gradients, products)

    def recognise(self, wanted: Update, count: int) -> torch.Tensor:
        """The ``count`` candidates that ``wanted`` most likely comes from, int64 [count].

        It is written as a sum of theirs with weights of at least zero, in least squares; the largest weights win. Each
        tensor counts alike, so that a large one does not drown what the others tell.
        """
        told = {name: value.flatten().cpu() for name, value in wanted.items() if value.abs().max() > 0}
        sizes = {name: float(value.double().square().sum()) for name, value in told.items()}
        products = torch.stack([self.products[name] / sizes[name] for name in told]).sum(0).numpy()
        likeness = torch.stack([(self.gradients[name] @ told[name]).double() / sizes[name] for name in told]).sum(0)
        # With A^T A = V S V^T, ||A w - u|| is ||S^0.5 V^T w - S^-0.5 V^T A^T u|| up to a constant: N equations in place
        # of millions. Directions that candidates do not differ in, up to rounding, are left out.
        values, vectors = np.linalg.eigh(products)
        vectors, values = vectors[:, values > _ROUNDING * values[-1]].T, values[values > _ROUNDING * values[-1]]
        roots = np.sqrt(values)[:, None]
        weights, _ = nnls(roots * vectors, (vectors @ likeness.numpy()) / roots[:, 0])
        return torch.from_numpy(np.argsort(-weights, kind="stable")[:count].copy())
