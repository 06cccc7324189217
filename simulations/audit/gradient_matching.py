"""A curious server: images whose gradient is the one that came.

Zhu et al., Deep Leakage from Gradients, NeurIPS 2019; the cosine between gradients is the objective of Geiping et al.,
Inverting Gradients, NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from fedmedpeft.learner import Learner
from simulations.audit.image_search import Search, search_span
from simulations.audit.public_images import Span
from simulations.audit.site_update import Batch, Update, mean_gradient

_START = 0.1
"""Standard deviations that images begin apart, since equal ones would stay equal."""


def match_gradient(
    learner: Learner, wanted: Update, labels: torch.Tensor, span: Span, search: Search, seed: int
) -> torch.Tensor:
    """Images [B, 3, S, S] of ``span`` whose mean gradient points where ``wanted`` points.

    Args:
        learner: in the state that the site started from.
        wanted: gradients, or minus what a visit changed, of any length: only directions are compared.
        labels: int64 [B], which the server knows or has read from the head (:func:`single_label`).
    """
    told = {name: value for name, value in wanted.items() if value.abs().max() > 0}

    def apart(images: torch.Tensor) -> torch.Tensor:
        return gradient_distance(mean_gradient(learner, Batch(images, labels), told, differentiable=True), told)

    generator = torch.Generator().manual_seed(seed)
    start = _START * torch.randn(len(labels), len(span.basis), generator=generator)
    return search_span(apart, span, start, search)


def gradient_distance(found: Update, wanted: Update) -> torch.Tensor:
    """1 - cosine, the mean over tensors: a large one, such as the head's, must not drown what the others tell."""
    cosines = [cosine_similarity(found[name].flatten(), value.flatten(), dim=0) for name, value in wanted.items()]
    return 1 - torch.stack(cosines).mean()


def single_label(bias_gradient: torch.Tensor) -> int:
    """The label of one image from the gradient [C] of the head's bias: the only entry below zero.

    Zhao et al., iDLG, 2020 (arXiv 2001.02610): it is softmax(logits) - one_hot(label).
    """
    return int(bias_gradient.argmin())
