"""Residual convolutional networks: Hugging Face's ResNet modules under this project's roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, ResNetConfig, ResNetModel

from fedmedpeft.backbones.architecture import ResNetArchitecture
from fedmedpeft.backbones.backbone import Backbone, Place, Role
from fedmedpeft.backbones.family import PublishedFamily
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.text import Text

_IMAGE_SIZE = 224
"""Pixels a side of the published ResNets, whose configuration has no word for it: any size would do."""

_CHANNELS = 1
"""Feature maps are [B, channels, height, width]."""


class ResidualLayer(nn.Module):
    """h -> activation(convolutions(h) + shortcut(h)), [B, C, h, w] each.

    The published layer adds in place, which gradients of single records do not survive.
    """

    def __init__(self, published: nn.Module) -> None:
        super().__init__()
        self.convolutions = published.get_submodule("layer")
        self.shortcut = published.get_submodule("shortcut")
        self.activation = published.get_submodule("activation")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.activation(self.convolutions(features) + self.shortcut(features))
        return output


class AveragePooling(nn.Module):
    """Feature map [B, d, h, w] -> feature [B, d]."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


class ResNet(Backbone):
    """Stem, residual layers of all stages, average over positions.

    BatchNorms compute with their pretrained running statistics, in training too: nothing moves them.

    Args:
        record: architecture and preprocessing.
        published: its modules are taken over.
        fingerprint: of the weights and the running statistics.
    """

    def __init__(self, record: BackboneRecord, published: ResNetModel, fingerprint: str = "") -> None:
        super().__init__(record, fingerprint)
        self.embed: nn.Module = published.embedder
        stages = [stage.get_submodule("layers") for stage in published.encoder.stages]
        self.blocks = nn.ModuleList(ResidualLayer(layer) for stage in stages for layer in stage.children())
        self.readout: nn.Module = AveragePooling()
        self.freeze(self._find_places(), self._expected(), published)

    def forward(self, pixels: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] of any size -> feature [B, d]."""
        self.refuse_texts(text, knowledge)
        features = self.embed(pixels)
        for block in self.blocks:
            features = block(features)
        feature: torch.Tensor = self.readout(features)
        return feature

    def _find_places(self) -> Iterator[Place]:
        yield Place("embed", "embed", self, "embed", self.embed, _CHANNELS)
        yield from _convolution("embed", "0", self.embed.get_submodule("embedder"))
        for index, block in enumerate(self.blocks):
            key = f"blocks.{index}"
            yield Place("block", key, self.blocks, str(index), block, _CHANNELS)
            assert isinstance(block, ResidualLayer)
            for number, layer in enumerate(block.convolutions.children()):
                yield from _convolution(key, str(number), layer)
            if not isinstance(block.shortcut, nn.Identity):
                yield from _convolution(f"{key}.shortcut", "", block.shortcut)
        yield Place("readout", "readout", self, "readout", self.readout)

    def _expected(self) -> dict[Role, int]:
        """From the sizes: a layer has 2 or 3 convolutions, and one more where its output differs from its input."""
        sizes = self.record.architecture
        assert isinstance(sizes, ResNetArchitecture)
        blocks = sum(sizes.depths)
        # Only the first layer of a stage changes resolution or width; in the first stage it may change neither.
        unchanged = not sizes.downsample_in_first_stage and sizes.embedding_size == sizes.hidden_sizes[0]
        convolutions = 1 + blocks * (2 if sizes.layer_type == "basic" else 3) + len(sizes.depths) - unchanged
        return {"embed": 1, "block": blocks, "conv": convolutions, "batchnorm": convolutions, "readout": 1}


class ResNetFamily(PublishedFamily[ResNetArchitecture]):
    """``ResNetModel``, of basic or of bottleneck layers (He et al., CVPR 2016)."""

    model_types = ("resnet",)
    ignored = ("classifier.",)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def architecture(self, config: dict[str, Any]) -> ResNetArchitecture:
        read = ResNetConfig(**config)
        return ResNetArchitecture(
            image_size=config.get("image_size", _IMAGE_SIZE),
            embedding_size=read.embedding_size,
            hidden_sizes=tuple(read.hidden_sizes or ()),
            depths=tuple(read.depths or ()),
            layer_type=read.layer_type,
            activation=read.hidden_act,
            downsample_in_first_stage=read.downsample_in_first_stage,
            downsample_in_bottleneck=read.downsample_in_bottleneck,
        )

    def new_model(self, architecture: ResNetArchitecture) -> ResNetModel:
        return ResNetModel(
            ResNetConfig(
                embedding_size=architecture.embedding_size,
                hidden_sizes=architecture.hidden_sizes,
                depths=architecture.depths,
                layer_type=architecture.layer_type,
                hidden_act=architecture.activation,
                downsample_in_first_stage=architecture.downsample_in_first_stage,
                downsample_in_bottleneck=architecture.downsample_in_bottleneck,
            )
        )

    def resized(self, model: PreTrainedModel, architecture: ResNetArchitecture) -> PreTrainedModel:
        """The same model: convolutions take any size."""
        return model

    def assemble(self, model: PreTrainedModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        assert isinstance(model, ResNetModel)
        return ResNet(record, model, fingerprint)


def _convolution(key: str, number: str, owner: nn.Module) -> Iterator[Place]:
    """A convolution and the BatchNorm after it."""
    for role, attribute in (("conv", "convolution"), ("batchnorm", "normalization")):
        yield Place(role, f"{key}.{role}{number}", owner, attribute, getattr(owner, attribute), _CHANNELS)  # type: ignore[arg-type]
