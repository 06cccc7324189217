"""What is known of a backbone without its weights: architecture and preprocessing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedmedpeft.backbones.architecture import (
    Architecture,
    ClipArchitecture,
    MeterArchitecture,
    TextArchitecture,
    ViTArchitecture,
)


class Preprocessing(BaseModel):
    """How pixels must look to this backbone: ``(x / 255 - mean) / std`` on RGB of ``image_size`` x ``image_size``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    @model_validator(mode="after")
    def _positive_std(self) -> Preprocessing:
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be above 0 in every channel")
        return self


class BackboneRecord(BaseModel):
    """Name, architecture and preprocessing of a backbone: all that the server ever needs of it.

    Attributes:
        remarks: what whoever reads its results must know of it, such as that some of its weights are random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    architecture: Architecture
    preprocessing: Preprocessing
    remarks: tuple[str, ...] = ()

    def at_image_size(self, image_size: int) -> BackboneRecord:
        """The same backbone fed with images of another size (position embeddings will be interpolated)."""
        preprocessing = self.preprocessing.model_dump() | {"image_size": image_size}
        return BackboneRecord(
            name=self.name,
            architecture=self.architecture.at_image_size(image_size),
            preprocessing=Preprocessing.model_validate(preprocessing),
            remarks=self.remarks,
        )


# The published sizes (same paper, table 1; Ti and S: Touvron et al., ICML 2021), to count before anything is loaded.
_SIZES = {"ti": (192, 12, 3, 768), "s": (384, 12, 6, 1536), "b": (768, 12, 12, 3072), "l": (1024, 24, 16, 4096)}


def standard_record(size: str, patch_size: int = 16, image_size: int = 224) -> BackboneRecord:
    """The record of ViT-Ti/S/B/L ("ti", "s", "b", "l") as published.

    >>> standard_record("b").architecture.hidden_size
    768
    """
    hidden, depth, heads, ffn = _SIZES[size]
    return BackboneRecord(
        name=f"vit-{size}/{patch_size}",
        architecture=ViTArchitecture(
            hidden_size=hidden,
            depth=depth,
            heads=heads,
            ffn_size=ffn,
            patch_size=patch_size,
            image_size=image_size,
            layer_norm_eps=1e-6,
        ),
        preprocessing=Preprocessing(image_size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3),
    )


def standard_meter_record(image_size: int = 384) -> BackboneRecord:
    """The record of METER as published: CLIP-ViT-B/16 without its last block, RoBERTa-base, six layers of fusion.

    >>> standard_meter_record().architecture.feature_size
    1536
    """
    hidden, _, heads, ffn = _SIZES["b"]
    sizes = {"hidden_size": hidden, "heads": heads, "ffn_size": ffn, "layer_norm_eps": 1e-5}
    vision = ClipArchitecture(depth=11, patch_size=16, image_size=image_size, **sizes)
    text = TextArchitecture(model="roberta", depth=12, positions=514, vocabulary=50265, types=1, padding=1, **sizes)
    return BackboneRecord(
        name="meter-b/16",
        architecture=MeterArchitecture(vision=vision, text=text),
        preprocessing=Preprocessing(image_size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3),
    )
