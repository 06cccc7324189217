"""KPL-METER against values of the published code: with knowledge, without, and every intermediate of the adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Inserted
from tests.golden_kpl import GoldenKpl

_METHOD = "kpl(middle=12)"


@pytest.fixture
def published(golden: Path) -> Path:
    """Where the reference values are; skips where there are none."""
    return golden / "kpl_meter"


def _run(golden: GoldenKpl, dtype: torch.dtype, *, knowledge: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature and logits."""
    backbone = golden.backbone.to(dtype)
    known = golden.text("prompt") if knowledge else None
    feature = backbone(golden.values["in.image"].to(dtype), golden.text("text"), known)
    return feature, golden.classify(feature)


@pytest.mark.parametrize(
    ("method", "knowledge", "case"),
    [(_METHOD, True, ""), (_METHOD, False, "noknow."), ("kpl-adapter", False, "plain_infer.")],
)
@torch.no_grad()
def test_features_and_logits(method: str, knowledge: bool, case: str, published: Path) -> None:
    golden = GoldenKpl.read(published, method)
    for dtype, prefix, tolerance in ((torch.float32, "", 1e-4), (torch.float64, "f64.", 1e-8)):
        found = _run(golden, dtype, knowledge=knowledge)
        for name, value in zip(("cls_feats", "vqa_logits"), found, strict=True):
            expected = golden.values[f"{prefix}out.{case}{name}"]
            torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def test_loss_and_gradients(published: Path) -> None:
    golden = GoldenKpl.read(published, _METHOD)
    for parameter in golden.parameters.values():
        parameter.requires_grad_(True)
    loss = golden.loss(_run(golden, torch.float32, knowledge=True)[1])
    torch.testing.assert_close(loss, golden.values["out.vqa_loss"][0], rtol=1e-4, atol=1e-4)
    loss.backward()
    names = {name: key for key, name in golden.published.items()}
    stored = {name: key for name in names if (key := f"grad.{name}") in golden.values}
    assert len(stored) == 6
    for name, key in stored.items():
        torch.testing.assert_close(golden.parameters[names[name]].grad, golden.values[key], rtol=1e-3, atol=1e-5)


def test_the_unused_norm_has_no_influence(published: Path) -> None:
    """As in the reference, where its values are random."""
    golden = GoldenKpl.read(published, _METHOD)
    for parameter in golden.parameters.values():
        parameter.requires_grad_(True)
    golden.loss(_run(golden, torch.float32, knowledge=True)[1]).backward()
    idle = [key for key in golden.parameters if ".unused_norm." in key]
    assert len(idle) == 4
    assert all(golden.parameters[key].detach().abs().max() > 0.1 for key in idle)
    for key, parameter in golden.parameters.items():
        assert parameter.grad is not None
        assert bool(parameter.grad.abs().max() == 0) == (key in idle), key


def _watch(golden: GoldenKpl) -> dict[str, list[torch.Tensor]]:
    """Outputs of every module call, by the name of the intermediate."""
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, __, output: seen.setdefault(name, []).append(output))

    backbone = golden.backbone
    places = {place.key: place for place in backbone.every_place()}
    for index in range(2):
        keep(f"clip.block{index}", places[f"vision.blocks.{index}"].current)
        keep(f"roberta.layer{index}", places[f"text.blocks.{index}"].current)
        for modality in ("text", "image"):
            key, name = f"fusion.{index}.{modality}", f"{modality}_cross.layer{index}"
            keep(f"{name}.after_self", places[f"{key}.attention"].current)
            keep(f"{name}.crossattention", places[f"{key}.cross"].original)
            keep(name, getattr(backbone.fusion.layers[index], modality))
        keep(f"sadapter{index}", backbone.get_submodule(f"fusion.layers.{index}.text.cross.adapter"))
    keep("clip.block0.adapter", backbone.get_submodule("vision.blocks.0.ffn.adapter"))
    keep("roberta.layer0.adapter", backbone.get_submodule("text.blocks.0.ffn.adapter"))
    keep("clip.ln_post", places["vision.norm"].current)
    names = ("text_cross.input", "image_cross.input", "mask", "knowledge.z")
    backbone.fusion.layers[0].register_forward_pre_hook(
        lambda _, inputs: seen.update({name: [value] for name, value in zip(names, inputs, strict=False)})
    )
    return seen


@torch.no_grad()
def test_every_intermediate(published: Path) -> None:
    golden = GoldenKpl.read(published, _METHOD)
    seen = _watch(golden)
    feature, _ = _run(golden, torch.float32, knowledge=True)
    seen |= {f"{name}_pooled": [half] for name, half in zip(("text", "image"), feature.chunk(2, dim=1), strict=True)}
    stored = [key for key in golden.values if key.startswith("mid.")]
    for key in stored:
        name, _, call = key.removeprefix("mid.").rpartition(".call")
        found = seen[name][int(call)] if name else seen[call][0]
        torch.testing.assert_close(found, golden.values[key], rtol=1e-4, atol=1e-4)
    assert len(stored) == 28


def test_knowledge_is_read_without_adapters(published: Path) -> None:
    golden = GoldenKpl.read(published, _METHOD)
    with torch.no_grad():
        states = golden.backbone.encode_knowledge(golden.text("prompt"))
    torch.testing.assert_close(states, golden.values["mid.roberta.layer1.call0"], rtol=1e-4, atol=1e-4)
    assert isinstance(golden.backbone.get_submodule("text.blocks.0.ffn"), Inserted)
