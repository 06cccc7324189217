from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import BackboneRecord, Preprocessing, Transformer, load_backbone, standard_record
from fedmedpeft.backbones.architecture import ClipArchitecture
from fedmedpeft.backbones.families import FAMILIES
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser

Tensors = dict[str, torch.Tensor]
_PROMPTS = 50
_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OURS = {
    "embed.dynamic.prompts": "encoder.prompt_token",
    "embed.dynamic.positions": "encoder.prompt_positional_embedding",
    **{
        f"blocks.{block}.ffn.dynamic.{ours}": f"encoder.transformer.resblocks.{block}.prompt_proj.{theirs}"
        for block in (0, 3)
        for ours, theirs in {
            "gate.factor": "prompt_gate",
            "down.weight": "prompt_key_proj_d.weight",
            "down.bias": "prompt_key_proj_d.bias",
            "up.weight": "prompt_key_proj_u.weight",
            "up.bias": "prompt_key_proj_u.bias",
        }.items()
    },
}


def _published(weights: Tensors) -> Tensors:
    """The reference's tensors under the names of ``CLIPVisionModelWithProjection``."""
    tower = "vision_model"
    renamed = {
        f"{tower}.embeddings.class_embedding": weights["encoder.class_embedding"],
        f"{tower}.embeddings.patch_embedding.weight": weights["encoder.conv1.weight"],
        f"{tower}.embeddings.position_embedding.weight": weights["encoder.positional_embedding"],
        "visual_projection.weight": weights["encoder.proj"].T,
    }
    for kind in ("weight", "bias"):
        renamed[f"{tower}.pre_layrnorm.{kind}"] = weights[f"encoder.ln_pre.{kind}"]
        renamed[f"{tower}.post_layernorm.{kind}"] = weights[f"encoder.ln_post.{kind}"]
        for index in range(5):
            theirs, ours = f"encoder.transformer.resblocks.{index}", f"{tower}.encoder.layers.{index}"
            renamed |= {f"{ours}.{b}.{kind}": weights[f"{theirs}.{a}.{kind}"] for a, b in _BLOCK.items()}
            for part, piece in zip("qkv", weights[f"{theirs}.attn.in_proj_{kind}"].chunk(3), strict=True):
                renamed[f"{ours}.self_attn.{part}_proj.{kind}"] = piece
    return renamed


def _reference(weights: Tensors, form: str) -> tuple[Transformer, dict[str, nn.Parameter]]:
    architecture = ClipArchitecture(
        hidden_size=48,
        depth=5,
        heads=4,
        ffn_size=192,
        patch_size=8,
        image_size=32,
        layer_norm_eps=1e-5,
        projection_size=32,
    )
    record = BackboneRecord(
        name="golden",
        architecture=architecture,
        preprocessing=Preprocessing(image_size=32, mean=(0, 0, 0), std=(1, 1, 1)),
    )
    family = FAMILIES["clip"]
    model = family.new_model(architecture)
    model.load_state_dict(_published(weights))
    backbone = family.assemble(model, record, "")
    assert isinstance(backbone, Transformer)
    parameters = METHODS.build(f"dynamic-vpt(form='{form}')").insert(backbone, Initialiser(0, torch.device("cpu")))
    assert set(parameters) == set(_OURS)
    for key, parameter in parameters.items():
        parameter.data = weights[_OURS[key]].reshape(parameter.shape).clone()
        parameter.requires_grad_(True)
    return backbone, parameters


@pytest.fixture(scope="module")
def weights(golden: Path) -> Tensors:
    return load_file(golden / "dvpt_vit" / "weights.safetensors")


@pytest.fixture(scope="module")
def values(golden: Path) -> Tensors:
    return load_file(golden / "dvpt_vit" / "io.safetensors")


def _reordered(theirs: torch.Tensor) -> torch.Tensor:
    """The reference puts the prompts first, we put them last."""
    return torch.cat([theirs[:, _PROMPTS:], theirs[:, :_PROMPTS]], dim=1)


def _watched(backbone: Transformer) -> dict[str, torch.Tensor]:
    """What the places give, by the reference's names, once the backbone has run."""
    seen: dict[str, torch.Tensor] = {}

    def watch(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output.detach()}))

    watch(backbone.norm_pre, "mid.ln_pre")
    for index in (0, 1, 4):
        block = backbone.blocks[index]
        watch(block.get_submodule("attention"), f"mid.block{index}.after_attn")
        watch(block, f"mid.block{index}")
        # A bottleneck serves several blocks: each result is the block's own output less that of the sub-layer.
        watch(block.get_submodule("ffn.base"), f"ffn{index}")
    return seen


def test_released_equals_the_public_code(weights: Tensors, values: Tensors) -> None:
    backbone, parameters = _reference(weights, "released")
    seen = _watched(backbone)
    head = weights["fc_head.weight"].clone().requires_grad_()
    features = backbone(values["in.image"])
    logits = features @ head.T
    loss = cross_entropy(logits, values["in.labels"])
    loss.backward()
    close = torch.testing.assert_close
    for index in (0, 1, 4):
        beside = seen[f"mid.block{index}"] - seen.pop(f"ffn{index}")
        close(beside, _reordered(values[f"mid.block{index}.prompt_proj"]), atol=1e-5, rtol=1e-5)
    for name, found in seen.items():
        close(found, _reordered(values[name]), atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    close(features, values["out.features"], atol=1e-5, rtol=1e-5)
    close(logits, values["out.logits"], atol=1e-5, rtol=1e-5)
    close(loss.reshape(1), values["out.loss"], atol=1e-5, rtol=1e-5)
    close(head.grad, values["grad.fc_head.weight"], atol=1e-5, rtol=1e-4)
    compared = {key: theirs for key, theirs in _OURS.items() if f"grad.{theirs}" in values}
    assert len(compared) == 5
    for key, theirs in compared.items():
        gradient = parameters[key].grad
        assert gradient is not None
        close(gradient, values[f"grad.{theirs}"].reshape(gradient.shape), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_released_equals_the_public_code_in_double_precision(weights: Tensors, values: Tensors) -> None:
    backbone, _ = _reference(weights, "released")
    features = backbone.double()(values["in.image"].double())
    torch.testing.assert_close(features, values["f64.out.features"], atol=1e-9, rtol=0)
    logits = features @ weights["fc_head.weight"].double().T
    torch.testing.assert_close(logits, values["f64.out.logits"], atol=1e-9, rtol=0)


@torch.no_grad()
def test_readout_uses_what_the_public_code_drops(weights: Tensors, values: Tensors) -> None:
    backbone, _ = _reference(weights, "readout")
    logits = backbone(values["in.image"]) @ weights["fc_head.weight"].T
    torch.testing.assert_close(logits, values["hypothesis_replace.logits"], atol=1e-5, rtol=1e-5)


def test_positions_are_resized_as_in_the_public_code(values: Tensors) -> None:
    found = resize_positions(values["posembed.in"][None], 4)[0]
    torch.testing.assert_close(found, values["posembed.out"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_abstract_equals_its_equations_token_by_token(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    parameters = METHODS.build("dynamic-vpt(tokens=3, bottleneck=4)").insert(
        backbone, Initialiser(0, torch.device("cpu"))
    )
    down, up = (
        (parameters[f"blocks.0.ffn.dynamic.{name}.weight"], parameters[f"blocks.0.ffn.dynamic.{name}.bias"])
        for name in ("down", "up")
    )
    prompts, gate = (parameters[f"blocks.0.ffn.dynamic.{name}"] for name in ("readout.prompts", "gate.factor"))
    gate.fill_(0.7)
    place = backbone.places("ffn")[0]
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))
    latent = [nn.functional.linear(token, *down) for token in x[0]]
    latent = [token * torch.sigmoid(1.702 * token) for token in latent]
    score = torch.tensor([[float(token @ prompt) / 2 for prompt in prompts] for token in latent])
    found = [sum(w * t for w, t in zip(score[:, p].softmax(0), latent, strict=True)) for p in range(3)]
    expected = [
        own + 0.7 * nn.functional.linear(sum(w * f for w, f in zip(score[n].softmax(0), found, strict=True)), *up)
        for n, own in enumerate(place.original(x)[0])
    ]
    torch.testing.assert_close(place.current(x)[0], torch.stack(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("dynamic-vpt(form='released')", 202_836),
        ("dynamic-vpt(form='readout')", 202_836),
        ("dynamic-vpt(form='released', share=1)", 454_908),
        # Four bottlenecks of 31 509 and their prompts, 50 x 20.
        ("dynamic-vpt", 130_036),
    ],
)
def test_counts_on_vit_b(method: str, parameters: int) -> None:
    assert learner_skeleton(standard_record("b"), method, "ab").manifest().numel("method") == parameters


@pytest.mark.parametrize("form", ["abstract", "released", "readout"])
def test_only_the_gate_and_the_prompts_in_the_sequence_move_first(tiny_backbone: Path, form: str) -> None:
    backbone = load_backbone(str(tiny_backbone))
    parameters = METHODS.build(f"dynamic-vpt(form='{form}')").insert(backbone, Initialiser(0, torch.device("cpu")))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    backbone(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    moved = {key for key, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0}
    embedded = {"embed.dynamic.prompts", "embed.dynamic.positions"} & set(parameters)
    assert moved == {"blocks.0.ffn.dynamic.gate.factor"} | embedded


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="'abstract', 'released' or 'readout'"):
        METHODS.build("dynamic-vpt(form='swin')")
