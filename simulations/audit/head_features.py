"""A linear head tells the feature it was fed: its weight's gradient over its bias's."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from fedmedpeft.learner import Learner
from simulations.audit.image_search import Search, search_span
from simulations.audit.public_images import Span

_FAINT = 1e-9


def read_features(weight_gradient: torch.Tensor, bias_gradient: torch.Tensor) -> torch.Tensor:
    """Gradients [C, d] and [C] of a linear head -> features [K, d], one for each class whose gradient is below zero.

    Row c of the first is the sum over images of (p_c - y_c) f, and of the second that of (p_c - y_c): their ratio is f
    where one image was in the step (Geiping et al., NeurIPS 2020, proposition 3.1), else a mean in which a class's own
    images weigh most. The classes come by their gradients, the strongest first; of one image there is one feature.
    """
    order = bias_gradient.argsort()
    told = [int(c) for c in order if bias_gradient[c] < -_FAINT] or [int(order[0])]
    return torch.stack([weight_gradient[c] / bias_gradient[c].clamp(max=-_FAINT) for c in told])


def image_of_feature(learner: Learner, features: torch.Tensor, span: Span, search: Search) -> torch.Tensor:
    """Images [K, 3, S, S] of ``span`` whose features point where ``features`` [K, d] point.

    Directions alone: after AdamW's steps the length of what was read means nothing.
    """

    def apart(images: torch.Tensor) -> torch.Tensor:
        return 1 - cosine_similarity(learner.features(255 * images), features.detach(), dim=1).mean()

    return search_span(apart, span, torch.zeros(len(features), len(span.basis)), search)
