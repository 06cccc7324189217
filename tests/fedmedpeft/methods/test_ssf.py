from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Backbone, load_backbone
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.methods.ssf import ScaledShifted, ScaleShift


def _scaled(name: str, request: pytest.FixtureRequest) -> Backbone:
    backbone = load_backbone(str(request.getfixturevalue(name)))
    parameters = METHODS.build("ssf").insert(backbone, Initialiser(0, torch.device("cpu")))
    for index, parameter in enumerate(parameters.values()):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return backbone.eval()


@pytest.mark.parametrize("name", ["tiny_backbone", "tiny_clip", "tiny_resnet"])
def test_each_operation_merges(name: str, request: pytest.FixtureRequest) -> None:
    """Linear, LayerNorm, convolution, BatchNorm and patch projection: one plain module computes the same."""
    backbone = _scaled(name, request)
    operations = [module for module in backbone.modules() if isinstance(module, ScaledShifted)]
    compared = []

    def compare(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, ScaledShifted)
        before = copy.deepcopy(module.base.state_dict())
        merged = module.merged(module.base)
        torch.testing.assert_close(merged(*inputs), output, rtol=1e-5, atol=1e-5)
        assert not any(isinstance(part, (ScaledShifted, ScaleShift)) for part in merged.modules())
        assert all(torch.equal(tensor, before[key]) for key, tensor in module.base.state_dict().items())
        compared.append(module)

    for operation in operations:
        operation.register_forward_hook(compare)
    with torch.no_grad():
        backbone(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9)))
    assert len(compared) == len(operations) > 0


def test_channels_lie_where_the_place_says() -> None:
    gamma, beta = nn.Parameter(torch.tensor([2.0, 3.0])), nn.Parameter(torch.tensor([0.5, 0.0]))
    maps = torch.ones(1, 2, 4, 4)
    assert ScaleShift(gamma, beta, 1)(maps)[0, :, 0, 0].tolist() == [2.5, 3.0]
    assert ScaleShift(gamma, beta, -1)(maps.permute(0, 2, 3, 1))[0, 0, 0].tolist() == [2.5, 3.0]


def test_every_operation_of_a_transformer(tiny_backbone: str, request: pytest.FixtureRequest) -> None:
    """Patch projection, eight in each block, and the last norm: a scale and a shift for each."""
    parameters = METHODS.build("ssf").insert(load_backbone(str(tiny_backbone)), Initialiser(0, torch.device("cpu")))
    assert len(parameters) == 2 * (1 + 2 * 8 + 1)
    assert {"embed.patch.ssf_gamma", "blocks.1.ffn_in.ssf_beta", "norm.ssf_gamma"} <= set(parameters)
