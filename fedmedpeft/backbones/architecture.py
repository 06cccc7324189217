"""The sizes of a backbone: all that is needed to build it without weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Sizes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(gt=0)

    def at_image_size(self, image_size: int) -> Self:
        """The same network for images of another size. Raises ValidationError where they do not fit."""
        return type(self).model_validate(self.model_dump() | {"image_size": image_size})


class TransformerSizes(_Sizes):
    """A pre-norm transformer over square patches."""

    hidden_size: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    ffn_size: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of heads={self.heads}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size={self.image_size} must be a multiple of patch_size={self.patch_size}")
        return self


class ViTArchitecture(TransformerSizes):
    """A Vision Transformer (Dosovitskiy et al., ICLR 2021)."""

    family: Literal["vit"] = "vit"
    activation: str = "gelu"
    qkv_bias: bool = True

    @property
    def feature_size(self) -> int:
        """Width of the feature that a head reads."""
        return self.hidden_size


class _TextSizes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    ffn_size: int = Field(gt=0)
    positions: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of heads={self.heads}")
        return self


class ClipTextArchitecture(_TextSizes):
    """CLIP's text transformer: causal, read at the end-of-text token."""

    activation: str = "quick_gelu"


class ClipArchitecture(TransformerSizes):
    """CLIP's vision tower (Radford et al., ICML 2021), and its text tower where the checkpoint holds the pair.

    Attributes:
        projection_size: width of the space that images and texts share; 0: the checkpoint has no projection.
        text: the text tower; None in a vision tower alone.
    """

    family: Literal["clip"] = "clip"
    activation: str = "quick_gelu"
    projection_size: int = Field(0, ge=0)
    text: ClipTextArchitecture | None = None

    @property
    def feature_size(self) -> int:
        """Width of the feature that a head reads: the shared space, or the tower's own width where there is none."""
        return self.projection_size or self.hidden_size


class ResNetArchitecture(_Sizes):
    """A residual convolutional network (He et al., CVPR 2016)."""

    image_size: int = Field(ge=32)
    family: Literal["resnet"] = "resnet"
    embedding_size: int = Field(gt=0)
    hidden_sizes: tuple[int, ...] = Field(min_length=1)
    depths: tuple[int, ...] = Field(min_length=1)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    activation: str = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    @property
    def feature_size(self) -> int:
        """Width of the feature that a head reads."""
        return self.hidden_sizes[-1]

    @model_validator(mode="after")
    def _same_stages(self) -> Self:
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError(f"hidden_sizes={self.hidden_sizes} and depths={self.depths} must have as many stages")
        return self


class TextArchitecture(_TextSizes):
    """BERT (Devlin et al., NAACL 2019) or RoBERTa (Liu et al., 2019), without a pooler.

    Attributes:
        model: how positions are counted.
        types: rows of the token-type embedding, of which the first is used; 0: there is none.
        padding: id of the padding token.
    """

    model: Literal["bert", "roberta"]
    types: int = Field(ge=0)
    padding: int = Field(ge=0)
    activation: str = "gelu"

    @property
    def longest(self) -> int:
        """The most tokens that a text may have; RoBERTa's positions begin behind the padding's."""
        return self.positions - (self.padding + 1 if self.model == "roberta" else 0)


class _WithImageTower(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    vision: Annotated[ViTArchitecture | ClipArchitecture, Field(discriminator="family")]

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self.vision.image_size

    def at_image_size(self, image_size: int) -> Self:
        """The same network for images of another size. Raises ValidationError where they do not fit."""
        vision = self.vision.at_image_size(image_size)
        return type(self).model_validate(self.model_dump() | {"vision": vision.model_dump()})


class MeterArchitecture(_WithImageTower):
    """Two towers and a stack of co-attention layers for each (Dou et al., METER, CVPR 2022, arXiv 2111.02387).

    Attributes:
        vision: the image tower, as many blocks of it as are used: METER leaves out CLIP's last.
        text: the text tower.
        hidden_size, depth, heads, ffn_size: of the co-attention layers of one modality; there are as many of the other.
        layer_norm_eps: of the co-attention layers.
        text_length: tokens that a question is cut to.
    """

    family: Literal["meter"] = "meter"
    text: TextArchitecture
    hidden_size: int = Field(768, gt=0)
    depth: int = Field(6, gt=0)
    heads: int = Field(12, gt=0)
    ffn_size: int = Field(3072, gt=0)
    layer_norm_eps: float = Field(1e-12, gt=0)
    text_length: int = Field(40, gt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of heads={self.heads}")
        if self.text_length > self.text.longest:
            raise ValueError(f"text_length={self.text_length}: the text tower reads at most {self.text.longest} tokens")
        return self

    @property
    def feature_size(self) -> int:
        """Width of the feature: the pooled text beside the pooled image."""
        return 2 * self.hidden_size


class EncoderDecoderArchitecture(_WithImageTower):
    """An image tower, a text encoder that reads its tokens, and a decoder that reads the encoder's states.

    BLIP's mixture of encoder and decoder (Li et al., ICML 2022, arXiv 2201.12086) as MISS has it (Chen et al., 2024,
    arXiv 2401.05163), without shared weights. The last two words of both vocabularies are [DEC] and [ENC].

    Attributes:
        text: the encoder; every block of it attends to the image.
        decoder: every block of it attends to the encoder's states.
        text_length: tokens that a question is cut to.
    """

    family: Literal["encoder-decoder"] = "encoder-decoder"
    text: TextArchitecture
    decoder: TextArchitecture
    text_length: int = Field(40, gt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "roberta" in (self.text.model, self.decoder.model):
            raise ValueError("text and decoder must be BERTs; RoBERTa's vocabulary has no room for [DEC] and [ENC]")
        if self.text.vocabulary != self.decoder.vocabulary:
            raise ValueError(
                f"vocabularies of {self.text.vocabulary} and {self.decoder.vocabulary} words: one tokenizer serves both"
            )
        if self.text_length > self.text.longest:
            raise ValueError(f"text_length={self.text_length}: the encoder reads at most {self.text.longest} tokens")
        return self

    @property
    def decode_token(self) -> int:
        """[DEC], which every answer begins with."""
        return self.text.vocabulary - 2

    @property
    def encode_token(self) -> int:
        """[ENC], which every question begins with."""
        return self.text.vocabulary - 1

    @property
    def feature_size(self) -> int:
        """None: its states are read by the decoder, not by a head."""
        return 0


Architecture = Annotated[
    ViTArchitecture | ClipArchitecture | ResNetArchitecture | MeterArchitecture | EncoderDecoderArchitecture,
    Field(discriminator="family"),
]
