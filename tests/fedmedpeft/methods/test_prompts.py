from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Backbone, load_backbone, skeleton, standard_record
from fedmedpeft.methods import METHODS, Initialiser

_CPU = torch.device("cpu")
# 3 patch^2 + width of the tiny backbone and of ViT-B: what the paper's bound is made of.
_TINY, _BASE = 3 * 8**2 + 16, 3 * 16**2 + 768


def _insert(directory: Path, method: str) -> tuple[Backbone, dict[str, nn.Parameter]]:
    backbone = load_backbone(str(directory))
    return backbone, METHODS.build(method).insert(backbone, Initialiser(0, _CPU))


def _pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(("project", "fan"), [(0, _TINY), (4, 3 * 8**2 + 4)])
def test_prompts_fill_the_published_interval(tiny_backbone: Path, project: int, fan: int) -> None:
    bound = (6 / fan) ** 0.5
    prompts = _insert(tiny_backbone, f"vpt-shallow(tokens=500, project={project})")[1]["embed.prompts"]
    assert 0.99 * bound < prompts.abs().max() <= bound


def test_one_projection_serves_all_blocks(tiny_backbone: Path) -> None:
    backbone, parameters = _insert(tiny_backbone, "vpt-deep(tokens=3, project=4)")
    shapes = {key: tuple(parameter.shape) for key, parameter in parameters.items()}
    assert shapes == {
        "blocks.prompt_projection.weight": (16, 4),
        "blocks.prompt_projection.bias": (16,),
        "blocks.0.prompts": (3, 4),
        "blocks.1.prompts": (3, 4),
    }
    assert sum(p.numel() for p in backbone.parameters() if any(p is q for q in parameters.values())) == 4 * 16 + 16 + 24


def test_a_projection_makes_averaging_inexact() -> None:
    for name in ("vpt-deep", "vpt-shallow"):
        assert METHODS.build(name).averaging == "exact"
        assert METHODS.build(f"{name}(project=4)").averaging == "factors"


@pytest.mark.parametrize("method", ["vpt-deep", "vpt-shallow", "decomposed-vpt"])
def test_dropout_differs_between_records_and_only_while_training(tiny_backbone: Path, method: str) -> None:
    backbone, _ = _insert(tiny_backbone, f"{method}(dropout=0.5)")
    same = _pixels()[:1].expand(2, -1, -1, -1)
    with torch.no_grad():
        one, other = backbone.train()(same)
        assert not torch.allclose(one, other)
        one, other = backbone.eval()(same)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("deep", [True, False])
def test_decomposed_prompts_are_the_prompts_of_their_product(tiny_backbone: Path, deep: bool) -> None:
    whole, plain = _insert(tiny_backbone, f"vpt-{'deep' if deep else 'shallow'}(tokens=6)")
    factored, factors = _insert(tiny_backbone, f"decomposed-vpt(tokens=6, rank=2, deep={str(deep).lower()})")
    for key, prompts in plain.items():
        prompts.data = (factors[f"{key}_A"] @ factors[f"{key}_B"]).detach()
    with torch.no_grad():
        torch.testing.assert_close(factored(_pixels()), whole(_pixels()))


def test_the_product_varies_as_plain_prompts_do() -> None:
    """Entries of A B on ViT-B: variance 2 / (3 p^2 + d), that of the uniform start."""
    init = Initialiser(0, _CPU)
    factors = METHODS.build("decomposed-vpt(deep=false, tokens=400)").insert(skeleton(standard_record("b")), init)
    product = factors["embed.prompts_A"] @ factors["embed.prompts_B"]
    assert product.shape == (400, 768)
    assert product.var().item() == pytest.approx(2 / _BASE, rel=0.1)
