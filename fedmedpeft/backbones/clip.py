"""CLIP: the vision tower alone, with or without its projection, or the pair with the text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
)

from fedmedpeft.backbones.architecture import ClipArchitecture, ClipTextArchitecture
from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.clip_text import TextTower
from fedmedpeft.backbones.family import PublishedFamily, shared_weights
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.backbones.transformer import BlockNames, Readout, TokenEmbedding, TokenReadout, Transformer

# transformers 5.23 names; a network in which one of them is missing is refused.
_NAMES = BlockNames(
    ffn="mlp",
    roles={
        "norm1": "layer_norm1",
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.out_proj",
        "norm2": "layer_norm2",
        "ffn_in": "mlp.fc1",
        "ffn_out": "mlp.fc2",
    },
)
_POSITIONS = "embeddings.position_embedding.weight"


class Clip(Transformer):
    """CLIP's vision tower with, where the checkpoint holds the pair, the text tower beside it.

    Attributes:
        text: the text tower; None in a vision tower alone.
    """

    text: TextTower | None


class ClipFamily(PublishedFamily[ClipArchitecture]):
    """``CLIPVisionModel``, ``CLIPVisionModelWithProjection`` and ``CLIPModel`` (Radford et al., ICML 2021).

    The feature is the class token, normalised and, where the checkpoint has a projection, in the space shared with
    texts.
    """

    model_types = ("clip_vision_model", "clip")
    # Saved by earlier versions of transformers, which counted them among the weights.
    ignored = tuple(f"{tower}embeddings.position_ids" for tower in ("", "vision_model.", "text_model."))
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    interpolation = "bicubic"
    unread_blocks = 1

    def architecture(self, config: dict[str, Any]) -> ClipArchitecture:
        if config["model_type"] != "clip":
            read = CLIPVisionConfig(**config)
            projected = "CLIPVisionModelWithProjection" in (config.get("architectures") or [])
            return _architecture(read, read.projection_dim if projected else 0, None)
        pair = CLIPConfig(**config)
        assert isinstance(pair.vision_config, CLIPVisionConfig)
        assert isinstance(pair.text_config, CLIPTextConfig)
        return _architecture(pair.vision_config, pair.projection_dim or 0, _text_architecture(pair.text_config))

    def new_model(self, architecture: ClipArchitecture) -> PreTrainedModel:
        vision = _vision_config(architecture)
        if architecture.text is None:
            return (CLIPVisionModelWithProjection if architecture.projection_size else CLIPVisionModel)(vision)
        text = _text_config(architecture.text)
        pair = CLIPConfig(text_config=text, vision_config=vision, projection_dim=architecture.projection_size)
        pair._attn_implementation = "sdpa"
        return CLIPModel(pair)

    def resized(self, model: PreTrainedModel, architecture: ClipArchitecture) -> PreTrainedModel:
        tensors = dict(model.state_dict())
        key = _POSITIONS if isinstance(model, CLIPVisionModel) else f"vision_model.{_POSITIONS}"
        tensors[key] = resize_positions(tensors[key][None], architecture.image_size // architecture.patch_size)[0]
        resized = self.new_model(architecture)
        resized.load_state_dict(tensors)
        return resized

    def assemble(self, model: PreTrainedModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        vision = _vision(model)
        projection = None if isinstance(model, CLIPVisionModel) else model.get_submodule("visual_projection")
        backbone = Clip(
            record,
            readout=Readout(vision.post_layernorm, projection),
            published=model,
            fingerprint=fingerprint,
            **_modules(vision),
        )
        backbone.text = TextTower(model) if isinstance(model, CLIPModel) else None
        return backbone

    def as_image_tower(self, architecture: ClipArchitecture, blocks: int) -> ClipArchitecture:
        return architecture.model_copy(update={"depth": blocks, "projection_size": 0, "text": None})

    def image_tower(self, model: nn.Module, architecture: ClipArchitecture) -> PreTrainedModel:
        return shared_weights(self.new_model(architecture), _vision(model))

    def tower(self, model: PreTrainedModel, record: BackboneRecord, prefix: str) -> Transformer:
        vision = _vision(model)
        readout = TokenReadout(vision.post_layernorm)
        return Transformer(record, readout=readout, published=model, prefix=prefix, **_modules(vision))

    def tokenizer(self, directory: Path, architecture: ClipArchitecture) -> Tokenizer | None:
        if architecture.text is None:
            return None
        tokenizer = Tokenizer.read(directory)
        if tokenizer:
            tokenizer.check(architecture.text.vocabulary)
        return tokenizer


def _vision(model: nn.Module) -> CLIPVisionModel:
    vision = model if isinstance(model, CLIPVisionModel) else model.vision_model
    assert isinstance(vision, CLIPVisionModel)
    return vision


def _modules(vision: CLIPVisionModel) -> dict[str, Any]:
    """What a Transformer is made of, but for its readout."""
    embeddings = vision.embeddings
    position = embeddings.position_embedding.get_parameter("weight")
    return {
        "embed": TokenEmbedding(embeddings.patch_embedding, embeddings.class_embedding, position),
        "norm_pre": vision.pre_layrnorm,
        "blocks": list(vision.encoder.layers),
        "names": _NAMES,
    }


def _architecture(read: CLIPVisionConfig, projection: int, text: ClipTextArchitecture | None) -> ClipArchitecture:
    return ClipArchitecture.model_validate(
        {
            "hidden_size": read.hidden_size,
            "depth": read.num_hidden_layers,
            "heads": read.num_attention_heads,
            "ffn_size": read.intermediate_size,
            "patch_size": read.patch_size,
            "image_size": read.image_size,
            "layer_norm_eps": read.layer_norm_eps,
            "activation": read.hidden_act,
            "projection_size": projection,
            "text": text,
        }
    )


def _text_architecture(read: CLIPTextConfig) -> ClipTextArchitecture:
    return ClipTextArchitecture.model_validate(
        {
            "hidden_size": read.hidden_size,
            "depth": read.num_hidden_layers,
            "heads": read.num_attention_heads,
            "ffn_size": read.intermediate_size,
            "positions": read.max_position_embeddings,
            "vocabulary": read.vocab_size,
            "layer_norm_eps": read.layer_norm_eps,
            "activation": read.hidden_act,
        }
    )


def _vision_config(architecture: ClipArchitecture) -> CLIPVisionConfig:
    config = CLIPVisionConfig(
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.ffn_size,
        patch_size=architecture.patch_size,
        image_size=architecture.image_size,
        layer_norm_eps=architecture.layer_norm_eps,
        hidden_act=architecture.activation,
        projection_dim=architecture.projection_size,
    )
    config._attn_implementation = "sdpa"
    return config


def _text_config(architecture: ClipTextArchitecture) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.ffn_size,
        max_position_embeddings=architecture.positions,
        vocab_size=architecture.vocabulary,
        layer_norm_eps=architecture.layer_norm_eps,
        hidden_act=architecture.activation,
        # The tokenizer knows them; the defaults lie outside a small vocabulary.
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
