"""BatchNorm tuning, with statistics that stay as they were pretrained or follow each site's images."""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import batch_norm

from fedmedpeft.backbones import Backbone, Inserted
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method


class BatchNormOptions(MethodOptions):
    """Options of ``batchnorm``."""

    statistics: Literal["frozen", "site"] = Field(
        "frozen", description="frozen: the pretrained means and variances; site: each site's own, which stay there"
    )
    momentum: float = Field(0.1, gt=0, le=1, description="weight of a batch in the site's statistics")

    @model_validator(mode="after")
    def _moves_something(self) -> Self:
        if "momentum" in self.model_fields_set and self.statistics == "frozen":
            raise ValueError(f"momentum={self.momentum} moves nothing with frozen statistics; add statistics='site'")
        return self


class SiteBatchNorm(Inserted):
    """A BatchNorm with the site's statistics in place of the pretrained ones, where these start.

    Training normalises by the batch and moves the statistics; evaluation uses them. One image alone says nothing of how
    images vary: a batch of one is normalised by the statistics, and leaves them.
    """

    kept = ("running_mean", "running_var")
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, base: nn.Module, momentum: float) -> None:
        super().__init__()
        # Read directly, so nothing else may be between.
        assert isinstance(base, nn.BatchNorm2d)
        self.base: nn.BatchNorm2d = base
        self.momentum = momentum
        for name in self.kept:
            self.register_buffer(name, base.get_buffer(name).clone())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        return batch_norm(
            features,
            self.running_mean,
            self.running_var,
            self.base.weight,
            self.base.bias,
            training=self.training and len(features) > 1,
            momentum=self.momentum,
            eps=self.base.eps,
        )

    def merged(self, base: nn.Module) -> nn.Module:
        """The BatchNorm with the site's statistics as its own."""
        merged = copy.deepcopy(cast(nn.BatchNorm2d, base))
        merged.running_mean, merged.running_var = self.running_mean.clone(), self.running_var.clone()
        return merged


@register_method("batchnorm", BatchNormOptions)
class BatchNorm(Method):
    """Scale and shift of every BatchNorm: y = gamma * (x - mean) / sqrt(var + eps) + beta.

    With ``statistics=frozen`` the means and variances are the pretrained ones, in training too. With
    ``statistics=site`` every site has its own, which training moves and which are never exchanged, while scale and
    shift are (SiloBN: Andreux et al., DCL 2020, arXiv 2008.07424). A site is scored with the federated parameters and
    its own statistics; a saved adapter holds none, so where it is loaded it starts from the pretrained ones.

    DP-SGD is for neither: batch statistics let a record move the features of the others, which nothing bounds; with
    frozen ones it could be bounded, but Opacus refuses to train a module that has statistics.
    """

    summary = "scale and shift of every BatchNorm, pretrained statistics (statistics='site': each site's own)"
    source = "Dutt et al., MIDL 2024 (PMLR 250); Andreux et al., SiloBN, 2020 (arXiv 2008.07424)"
    learning_rate = 3e-3
    mergeable = True
    dp_capable = False
    options: BatchNormOptions

    def __init__(self, options: BatchNormOptions) -> None:
        super().__init__(options)
        self.keeps_statistics = options.statistics == "site"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        if self.options.statistics == "site":
            for place in backbone.places("batchnorm"):
                place.wrap(partial(SiteBatchNorm, momentum=self.options.momentum))
        return backbone.original_parameters("batchnorm")
