"""Prompts and adapters compute what the published code of VPT computes, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.methods import METHODS, Initialiser
from tests.golden_vit import GoldenViT

_T = "enc.transformer"
_PROJECTION = {f"blocks.prompt_projection.{name}": (f"{_T}.prompt_proj.{name}", None) for name in ("weight", "bias")}
_DEEP = {
    "blocks.0.prompts": (f"{_T}.prompt_embeddings", 0),
    "blocks.1.prompts": (f"{_T}.deep_prompt_embeddings", 0),
    "blocks.2.prompts": (f"{_T}.deep_prompt_embeddings", 1),
}
_ADAPTERS = {
    f"blocks.{block}.ffn_out.pfeiffer.{ours}.{name}": (f"{_T}.encoder.layer.{block}.adapter_{theirs}.{name}", None)
    for block in range(3)
    for ours, theirs in (("down", "downsample"), ("up", "upsample"))
    for name in ("weight", "bias")
}


@dataclass(frozen=True)
class _Case:
    """A golden folder, our method, and where each of our parameters is there (None: all of that tensor)."""

    folder: str
    method: str
    names: Mapping[str, tuple[str, int | None]]


_CASES = [
    _Case("vpt_shallow", "vpt-shallow(tokens=5, dropout=0.1)", {"embed.prompts": (f"{_T}.prompt_embeddings", 0)}),
    _Case("vpt_deep", "vpt-deep(tokens=5, dropout=0.1)", _DEEP),
    _Case("vpt_deep_project", "vpt-deep(tokens=5, project=20, dropout=0.1)", {**_DEEP, **_PROJECTION}),
    _Case("vpt_repo_adapter", "pfeiffer(bottleneck=12, activation='gelu')", _ADAPTERS),
]


class _Ours:
    """Our backbone with the method's parameters and the head set to the published ones."""

    def __init__(self, case: _Case, golden: Path, dtype: torch.dtype) -> None:
        self.golden = GoldenViT.read(golden / case.folder)
        self.backbone = self.golden.backbone
        self.parameters = METHODS.build(case.method).insert(self.backbone, Initialiser(0, torch.device("cpu")))
        assert set(self.parameters) == set(case.names)
        for key, (name, index) in case.names.items():
            value = self.golden.weights[name]
            self.parameters[key].data.copy_(value if index is None else value[index])
        self.backbone.to(dtype).eval()
        head = {name: self.golden.weights[f"head.last_layer.{name}"].to(dtype) for name in ("weight", "bias")}
        self.head = {name: nn.Parameter(value) for name, value in head.items()}
        self.seen: dict[str, torch.Tensor] = {}
        self.backbone.place("embed").original.register_forward_hook(self._see("embeddings_before_prompts"))
        for index, place in enumerate(self.backbone.places("block")):
            place.original.register_forward_hook(self._see(f"block{index}"))

    def _see(self, name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.seen |= {f"mid.{name}.input": inputs[0], f"mid.{name}": output}

        return hook

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and logits of the golden images."""
        pixels = self.golden.values["in.image"].to(self.head["weight"].dtype)
        features = self.backbone(pixels)
        return features, features @ self.head["weight"].T + self.head["bias"]


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.folder)
def test_every_value_on_the_way(case: _Case, golden: Path) -> None:
    ours = _Ours(case, golden, torch.float32)
    values = ours.golden.values
    with torch.no_grad():
        features, logits = ours.forward()
    _close(features, values["out.features"])
    _close(logits, values["out.logits"])
    _close(features, values["mid.encoder_norm"][:, 0])
    expected = [key for key in values if key.startswith("mid.") and key != "mid.encoder_norm"]
    assert len(expected) == 1 + 2 * 3
    for key in expected:
        _close(ours.seen[key], values[key])


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.folder)
def test_loss_and_gradients(case: _Case, golden: Path) -> None:
    ours = _Ours(case, golden, torch.float32)
    values = ours.golden.values
    for parameter in ours.parameters.values():
        parameter.requires_grad_(True)
    loss = cross_entropy(ours.forward()[1], values["in.labels"])
    _close(loss, values["out.loss"].squeeze())
    loss.backward()
    compared = {"grad.head.last_layer.weight"}
    _close(ours.head["weight"].grad, values["grad.head.last_layer.weight"])  # type: ignore[arg-type]
    for key, (name, index) in case.names.items():
        expected = values.get(f"grad.{name}")
        if expected is not None:
            compared.add(f"grad.{name}")
            _close(ours.parameters[key].grad, expected if index is None else expected[index])  # type: ignore[arg-type]
    assert compared == {key for key in values if key.startswith("grad.")}


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.folder)
def test_to_nine_digits_in_double_precision(case: _Case, golden: Path) -> None:
    ours = _Ours(case, golden, torch.float64)
    with torch.no_grad():
        features, logits = ours.forward()
    _close(features, ours.golden.values["f64.out.features"], 1e-9)
    _close(logits, ours.golden.values["f64.out.logits"], 1e-9)
