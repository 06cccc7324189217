"""Vision Transformers: Hugging Face's ViT modules under this project's roles."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel, ViTConfig, ViTModel

from fedmedpeft.backbones.architecture import ViTArchitecture
from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.family import PublishedFamily, shared_weights
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.transformer import BlockNames, Readout, TokenEmbedding, TokenReadout, Transformer

# transformers 5.23 names; a network in which one of them is missing is refused.
_NAMES = BlockNames(
    ffn="mlp",
    roles={
        "norm1": "layernorm_before",
        "q": "attention.q_proj",
        "k": "attention.k_proj",
        "v": "attention.v_proj",
        "o": "attention.o_proj",
        "norm2": "layernorm_after",
        "ffn_in": "mlp.fc1",
        "ffn_out": "mlp.fc2",
    },
)


class ViT(PublishedFamily[ViTArchitecture]):
    """``ViTModel`` without its pooler."""

    model_types = ("vit",)
    ignored = ("classifier.", "pooler.")
    arguments = {"add_pooling_layer": False}  # noqa: RUF012

    def architecture(self, config: dict[str, Any]) -> ViTArchitecture:
        read = ViTConfig(**config)
        return ViTArchitecture(
            hidden_size=read.hidden_size,
            depth=read.num_hidden_layers,
            heads=read.num_attention_heads,
            ffn_size=read.intermediate_size,
            patch_size=read.patch_size,
            image_size=read.image_size,
            layer_norm_eps=read.layer_norm_eps,
            activation=read.hidden_act,
            qkv_bias=read.qkv_bias,
        )

    def new_model(self, architecture: ViTArchitecture) -> ViTModel:
        config = ViTConfig(
            hidden_size=architecture.hidden_size,
            num_hidden_layers=architecture.depth,
            num_attention_heads=architecture.heads,
            intermediate_size=architecture.ffn_size,
            patch_size=architecture.patch_size,
            image_size=architecture.image_size,
            layer_norm_eps=architecture.layer_norm_eps,
            hidden_act=architecture.activation,
            qkv_bias=architecture.qkv_bias,
        )
        config._attn_implementation = "sdpa"
        return ViTModel(config, add_pooling_layer=False)

    def resized(self, model: PreTrainedModel, architecture: ViTArchitecture) -> ViTModel:
        tensors = dict(model.state_dict())
        key = "embeddings.position_embeddings"
        tensors[key] = resize_positions(tensors[key], architecture.image_size // architecture.patch_size)
        resized = self.new_model(architecture)
        resized.load_state_dict(tensors)
        return resized

    def assemble(self, model: PreTrainedModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        assert isinstance(model, ViTModel)
        return _transformer(model, record, Readout(model.layernorm, None), fingerprint=fingerprint)

    def as_image_tower(self, architecture: ViTArchitecture, blocks: int) -> ViTArchitecture:
        return architecture.model_copy(update={"depth": blocks})

    def image_tower(self, model: nn.Module, architecture: ViTArchitecture) -> PreTrainedModel:
        return shared_weights(self.new_model(architecture), model)

    def tower(self, model: PreTrainedModel, record: BackboneRecord, prefix: str) -> Transformer:
        assert isinstance(model, ViTModel)
        return _transformer(model, record, TokenReadout(model.layernorm), prefix=prefix)


def _transformer(
    model: ViTModel, record: BackboneRecord, readout: Readout | TokenReadout, *, fingerprint: str = "", prefix: str = ""
) -> Transformer:
    convolution: nn.Module = model.embeddings.patch_embeddings.projection
    return Transformer(
        record,
        embed=TokenEmbedding(convolution, model.embeddings.cls_token, model.embeddings.position_embeddings),
        blocks=list(model.layers),
        names=_NAMES,
        readout=readout,
        published=model,
        fingerprint=fingerprint,
        prefix=prefix,
    )
