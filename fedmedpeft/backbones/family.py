"""What a kind of backbone must offer: everything that differs between ViT, CLIP and ResNet stands behind this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from transformers import PreTrainedModel

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.tokenizer import Tokenizer

A = TypeVar("A")


class Family(ABC, Generic[A]):
    """One kind of backbone, built from Hugging Face's modules."""

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

    @abstractmethod
    def architecture(self, config: dict[str, Any]) -> A:
        """Read the sizes out of a published configuration."""

    @abstractmethod
    def new_model(self, architecture: A) -> PreTrainedModel:
        """The published network with these sizes, weights not set to anything; attention in torch's fused kernel."""

    @abstractmethod
    def resized(self, model: PreTrainedModel, architecture: A) -> PreTrainedModel:
        """The same weights in a network for ``architecture.image_size``."""

    @abstractmethod
    def assemble(self, model: PreTrainedModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        """Make the backbone of the model's modules, which are taken over, not copied."""

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
