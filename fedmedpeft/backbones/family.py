"""What a kind of backbone must offer: everything that differs between ViT, CLIP and ResNet stands behind this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.fingerprint import fingerprint
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.backbones.transformer import Transformer

A = TypeVar("A")
M = TypeVar("M", bound=nn.Module)


class Loaded(NamedTuple):
    """What was read of a backbone, at the checkpoint's own image size.

    Attributes:
        record: architecture and preprocessing.
        model: with its weights, all of them checked.
        tokenizer: of its text tower, where there is one and the checkpoint brought it.
    """

    record: BackboneRecord
    model: nn.Module
    tokenizer: Tokenizer | None

    def fingerprint(self, record: BackboneRecord) -> str:
        """The fingerprint of these weights under ``record``, which may be for another image size."""
        words = self.tokenizer.hash if self.tokenizer else ""
        return fingerprint(record.architecture, record.preprocessing, self.model.state_dict(), words)


class Family(ABC, Generic[A, M]):
    """One kind of backbone: its network without weights, and the backbone made of that."""

    @abstractmethod
    def new_model(self, architecture: A) -> M:
        """The network with these sizes, weights not set to anything; attention in torch's fused kernel."""

    @abstractmethod
    def resized(self, model: M, architecture: A) -> M:
        """The same weights in a network for ``architecture.image_size``."""

    @abstractmethod
    def assemble(self, model: M, record: BackboneRecord, fingerprint: str) -> Backbone:
        """Make the backbone of the model's modules, which are taken over, not copied."""


class PublishedFamily(Family[A, PreTrainedModel]):
    """One network of Hugging Face's, and the checkpoints that it is published in."""

    model_types: ClassVar[tuple[str, ...]]
    """Values of ``model_type`` in a published configuration."""
    ignored: ClassVar[tuple[str, ...]] = ()
    """Beginnings of tensor names that a checkpoint may hold beside the backbone: a task brings its own head."""
    arguments: ClassVar[dict[str, Any]] = {}
    """What the published class takes beside its configuration."""
    mean: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    """Of the pixels, where a checkpoint says nothing."""
    std: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    """Of the pixels, where a checkpoint says nothing."""
    interpolation: ClassVar[str] = "bilinear"
    """From another image size, where a checkpoint says nothing."""
    unread_blocks: ClassVar[int] = 0
    """Last blocks that METER leaves out of its image tower."""

    @abstractmethod
    def architecture(self, config: dict[str, Any]) -> A:
        """Read the sizes out of a published configuration."""

    def as_image_tower(self, architecture: A, blocks: int) -> A:
        """Sizes of the image tower of a larger backbone, down to its first ``blocks`` blocks.

        Raises:
            TypeError: this family has no tokens.
        """
        raise TypeError(f"{type(self).__name__} is no transformer")

    def image_tower(self, model: nn.Module, architecture: A) -> PreTrainedModel:
        """The network with those sizes and the weights that ``model`` has for it.

        Raises:
            TypeError: this family has no tokens.
        """
        raise TypeError(f"{type(self).__name__} is no transformer")

    def tower(self, model: PreTrainedModel, record: BackboneRecord, prefix: str) -> Transformer:
        """The image tower of a larger backbone, which gives all its tokens, normalised.

        Args:
            prefix: in front of the keys of its places.

        Raises:
            TypeError: this family has no tokens.
        """
        raise TypeError(f"{type(self).__name__} is no transformer")

    def tokenizer(self, directory: Path, architecture: A) -> Tokenizer | None:
        """What turns words into tokens, where a text tower belongs to the backbone and ``directory`` holds it.

        Raises:
            ConfigError: its files are damaged or belong to another checkpoint.
        """
        return None

    def read(self, directory: Path, architecture: A) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Load a published checkpoint in float32; understands the key names of earlier versions of transformers too.

        Returns:
            The model, and what transformers says of missing, unexpected and mismatched tensors.
        """
        with torch.device("meta"):
            target = self.new_model(architecture)
        # transformers' own annotation leaves out the second part of the result.
        loaded: tuple[PreTrainedModel, dict[str, Any]] = type(target).from_pretrained(
            str(directory),
            config=target.config,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **self.arguments,
        )  # type: ignore[assignment]
        return loaded


def shared_weights(smaller: PreTrainedModel, model: nn.Module) -> PreTrainedModel:
    """``smaller`` with the tensors that ``model`` has under the same names."""
    tensors = model.state_dict()
    smaller.load_state_dict({name: tensors[name] for name in smaller.state_dict()}, assign=True)
    return smaller
