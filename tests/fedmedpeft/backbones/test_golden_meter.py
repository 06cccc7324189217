"""METER and M3AE against the published systems: every intermediate, output and gradient."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fedmedpeft.backbones.attention import MultiHeadAttention
from fedmedpeft.backbones.meter import CoAttention, Meter
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.post_norm import PostNormBlock
from tests.golden_meter import GoldenMeter

_CASES = {
    "meter": {"layers": "cross", "vqa": "vqa_classifier", "cls": "", "itm": "itm_score", "mlm": "mlm_score"},
    "m3ae": {"layers": "mm", "vqa": "vqa_head", "cls": "cls_head", "itm": "itm_head", "mlm": "mlm_head"},
}

# Published names of parameters whose gradients are known, and their names here.
_METER_GRADIENTS = {
    "cross_modal_text_layers.0.crossattention.self.key.weight": "fusion.0.text.cross.k.weight",
    "cross_modal_image_layers.0.attention.output.LayerNorm.weight": "fusion.0.image.norm1.weight",
    "cross_modal_image_layers.1.crossattention.self.value.bias": "fusion.1.image.cross.v.bias",
    "token_type_embeddings.weight": "fusion.type_embed.weight",
    "cross_modal_image_transform.weight": "fusion.image_transform.weight",
    "vit_model.visual.class_embedding": "vision.embed.class_token",
    "vit_model.visual.positional_embedding": "vision.embed.position",
    "text_transformer.embeddings.position_embeddings.weight": "text.embed.position.weight",
    "text_transformer.encoder.layer.0.attention.self.query.weight": "text.blocks.0.q.weight",
}
_M3AE_GRADIENTS = {
    "multi_modal_language_layers.0.crossattention.self.query.weight": "fusion.0.text.cross.q.weight",
    "multi_modal_vision_layers.0.output.LayerNorm.bias": "fusion.0.image.norm2.bias",
    "modality_type_embeddings.weight": "fusion.type_embed.weight",
    "multi_modal_vision_proj.weight": "fusion.image_transform.weight",
    "vision_encoder.visual.class_embedding": "vision.embed.class_token",
    "vision_encoder.visual.ln_pre.weight": "vision.norm_pre.weight",
    "language_encoder.encoder.layer.0.attention.self.value.weight": "text.blocks.0.v.weight",
}
_FUSED = "vit_model.visual.transformer.resblocks.0.attn.in_proj_weight"
_OF_FUSED = [f"vision.blocks.0.{role}.weight" for role in "qkv"]


@pytest.fixture(scope="module", params=_CASES)
def case(request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> GoldenMeter:
    return GoldenMeter.read(golden / request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def names(case: GoldenMeter) -> dict[str, str]:
    return _CASES["m3ae" if "vqa_head.0.weight" in case.weights else "meter"]


class _Watch:
    """Keeps what modules read and gave in one forward pass."""

    def __init__(self, backbone: Meter) -> None:
        self.backbone = backbone
        self.seen: dict[str, torch.Tensor] = {}

    def keep(self, name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, __, output: self.seen.__setitem__(name, output))

    def keep_inputs(self, names: Iterable[str], module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.seen |= dict(zip(names, inputs, strict=False))

        module.register_forward_pre_hook(hook)


def _watch(backbone: Meter, layers: str) -> _Watch:
    """Every intermediate of the reference by its name there, but for attention maps."""
    watch, fusion = _Watch(backbone), backbone.fusion
    watch.keep("mid.text_uni.embeddings", backbone.text.norm_pre)
    watch.keep("mid.image_uni.ln_pre", backbone.vision.norm_pre)
    watch.keep("mid.image_uni.ln_post", backbone.vision.readout)
    for index, (text, image) in enumerate(zip(backbone.text.blocks, backbone.vision.blocks, strict=True)):
        watch.keep(f"mid.text_uni.layer{index}", text)
        watch.keep(f"mid.image_uni.block{index}", image)
    watch.keep_inputs((f"mid.text_{layers}.input", f"mid.image_{layers}.input"), fusion.layers[0])
    for index, layer in enumerate(fusion.layers):
        assert isinstance(layer, CoAttention)
        assert isinstance(layer.text.cross, nn.Module)
        watch.keep(f"mid.text_{layers}.layer{index}", layer.text)
        watch.keep(f"mid.image_{layers}.layer{index}", layer.image)
        watch.keep(f"mid.text_{layers}.layer{index}.after_self", layer.text.attention)
        watch.keep(f"mid.text_{layers}.layer{index}.after_cross", layer.text.cross)
    return watch


def _outputs(case: GoldenMeter, names: dict[str, str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All that the reference says, computed here."""
    backbone = case.load().to(dtype)
    watch, layers = _watch(backbone, names["layers"]), names["layers"]
    feature = backbone(case.values["in.image"].to(dtype), case.text)
    found = watch.seen
    found["mid.text_pooled"], found["mid.image_pooled"] = feature.chunk(2, dim=1)
    found["out.text_feats"] = found[f"mid.text_{layers}.layer1"]
    found["out.image_feats"] = found[f"mid.image_{layers}.layer1"]
    found["out.cls_feats"] = feature
    found["out.vqa_logits"] = case.classifier(names["vqa"], dtype)(feature)
    found["out.itm_logits"] = case.linear(f"{names['itm']}.fc", feature)
    found["out.mlm_logits"] = case.masked_words(names["mlm"], found["out.text_feats"])
    found |= _losses(case, names, found, dtype)
    return found


def _losses(
    case: GoldenMeter, names: dict[str, str], found: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    logits, values = found["out.vqa_logits"], case.values
    targets = torch.zeros_like(logits)
    # The reference read the scores (0.3) as they were written, not as float32 has them.
    targets.scatter_(1, values["in.vqa_label_ids"], values["in.vqa_label_scores"].to(dtype).round(decimals=6))
    losses = {"out.vqa_targets": targets}
    losses["out.vqa_loss"] = binary_cross_entropy_with_logits(logits, targets)[None] * logits.shape[1]
    if names["cls"]:
        losses["out.cls_logits"] = case.classifier(names["cls"], dtype)(found["out.cls_feats"])
        losses["out.cls_loss"] = cross_entropy(losses["out.cls_logits"], values["in.cls_labels"])[None]
        losses["out.irtr_score"] = case.linear("irtr_head", found["out.cls_feats"])[:, 0]
    return losses


@torch.no_grad()
def test_every_intermediate_and_output(case: GoldenMeter, names: dict[str, str]) -> None:
    found = _outputs(case, names, torch.float32)
    expected = {key for key in case.values if key.startswith(("mid.", "out.")) and not key.startswith("mid.attn.")}
    assert expected <= found.keys()
    for key in expected:
        torch.testing.assert_close(found[key], case.values[key], atol=1e-4, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


@torch.no_grad()
def test_outputs_in_double_precision(case: GoldenMeter, names: dict[str, str]) -> None:
    found = _outputs(case, names, torch.float64)
    keys = [key for key in case.values if key.startswith("f64.")]
    assert len(keys) > 7
    for key in keys:
        torch.testing.assert_close(found[key.removeprefix("f64.")], case.values[key], atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_attention_maps(case: GoldenMeter) -> None:
    backbone, maps = case.load(), {}

    def watch(name: str, attention: MultiHeadAttention) -> None:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]) -> None:
            x, context, mask = inputs
            maps[f"mid.attn.{name}"] = _map(attention, x, x if context is None else context, mask)

        attention.register_forward_pre_hook(hook)

    layer = backbone.fusion.layers[0]
    assert isinstance(layer, CoAttention)
    for name, block, other in (("text", layer.text, "image"), ("image", layer.image, "text")):
        assert isinstance(block, PostNormBlock)
        assert block.cross is not None
        watch(f"{name}_layer0_self", block.attention.get_submodule("attention"))  # type: ignore[arg-type]
        watch(f"{name}_layer0_to_{other}", block.cross.get_submodule("attention"))  # type: ignore[arg-type]
    backbone(case.values["in.image"], case.text)
    for key in [key for key in case.values if key.startswith("mid.attn.")]:
        torch.testing.assert_close(maps[key], case.values[key], atol=1e-4, rtol=1e-4)


def _map(
    attention: MultiHeadAttention, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    q, k = (
        tokens.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for tokens in (attention.q(x), attention.k(context))
    )
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask[:, None, None], -torch.inf)).softmax(-1)


def test_gradients(case: GoldenMeter, names: dict[str, str]) -> None:
    backbone = case.load()
    parameters = backbone.original_parameters()
    heads = {name: case.classifier(name, torch.float32) for name in (names["vqa"], names["cls"]) if name}
    known = _M3AE_GRADIENTS if names["cls"] else _METER_GRADIENTS
    for key in [*known.values(), *_OF_FUSED]:
        parameters[key].requires_grad_(True)
    feature = backbone(case.values["in.image"], case.text)
    found = {"out.cls_feats": feature, "out.vqa_logits": heads[names["vqa"]](feature)}
    loss = _losses(case, names, found, torch.float32)["out.vqa_loss"].sum()
    if names["cls"]:
        loss = loss + cross_entropy(heads[names["cls"]](feature), case.values["in.cls_labels"])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {published: parameters[key].grad for published, key in known.items()}
    gradients |= {f"{name}.{key}": p.grad for name, head in heads.items() for key, p in head.named_parameters()}
    gradients[_FUSED] = torch.cat([parameters[key].grad for key in _OF_FUSED])  # type: ignore[misc]
    for key in [key for key in case.values if key.startswith("grad.")]:
        torch.testing.assert_close(gradients[key.removeprefix("grad.")], case.values[key], rtol=1e-3, atol=1e-5)


def test_positions_for_another_size(case: GoldenMeter) -> None:
    patch = case.load().vision.patch_size
    for key in [key for key in case.values if key.startswith("posembed.out_")]:
        pixels = int(key.rpartition("_")[2])
        alone = resize_positions(case.values["posembed.in"][None], pixels // patch)[0]
        torch.testing.assert_close(alone, case.values[key], rtol=0, atol=1e-6)
        loaded = case.load(pixels).original_parameters()["vision.embed.position"]
        assert loaded.shape == case.values[key].shape


@torch.no_grad()
def test_the_whole_model_at_a_higher_resolution(case: GoldenMeter, names: dict[str, str]) -> None:
    pixels = case.values["hires.in.image"]
    feature = case.load(pixels.shape[-1])(pixels, case.text.rows(torch.tensor([0])))
    torch.testing.assert_close(feature, case.values["hires.out.cls_feats"], atol=1e-4, rtol=1e-4)
    logits = case.classifier(names["vqa"], torch.float32)(feature)
    torch.testing.assert_close(logits, case.values["hires.out.vqa_logits"], atol=1e-4, rtol=1e-4)


def test_heads_in_the_checkpoint_are_said_to_be_unused(case: GoldenMeter, names: dict[str, str]) -> None:
    (remark,) = case.load().record.remarks
    assert all(names[head] in remark for head in ("vqa", "cls", "itm", "mlm"))
