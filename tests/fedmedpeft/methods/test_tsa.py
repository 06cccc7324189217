from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d

from fedmedpeft.backbones import Backbone, Inserted, NotMergeable, load_backbone, skeleton
from fedmedpeft.methods import METHODS, Initialiser
from tests.tiny_resnet import resnet_record, save_resnet

_INIT = Initialiser(0, torch.device("cpu"))
_META = Initialiser(0, torch.device("meta"))


def _pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def _adapted(directory: Path, method: str) -> tuple[Backbone, dict[str, torch.nn.Parameter]]:
    """With adapters away from their start."""
    backbone = load_backbone(str(directory))
    parameters = METHODS.build(method).insert(backbone, _INIT)
    for index, parameter in enumerate(parameters.values()):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return backbone, parameters


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("targets", ["3x3", "all"])
def test_merging_into_the_centre_of_the_kernel_is_exact(tmp_path: Path, layer_type: str, targets: str) -> None:
    save_resnet(tmp_path, layer_type=layer_type)
    adapted, parameters = _adapted(tmp_path, f"tsa(targets='{targets}')")
    plain = load_backbone(str(tmp_path))
    assert parameters
    for place in plain.places("conv"):
        update = parameters.get(f"{place.key}.tsa")
        if update is not None:
            weight = place.original.get_parameter("weight")
            centre = weight.shape[-1] // 2
            weight.data[:, :, centre, centre] += update.data[:, :, 0, 0]
    with torch.no_grad():
        expected = plain(_pixels())
        torch.testing.assert_close(adapted(_pixels()), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(expected, load_backbone(str(tmp_path))(_pixels()), atol=1e-3)
        for place in adapted.places("conv"):
            if isinstance(place.current, Inserted):
                setattr(place.owner, place.attribute, place.current.merged(place.original))
        assert torch.equal(adapted(_pixels()), expected)


def test_a_convolution_beside_a_convolution(tiny_resnet: Path) -> None:
    """f(h) + r(h) with the stride of f, by the functional form."""
    adapted, parameters = _adapted(tiny_resnet, "tsa")
    place = next(place for place in adapted.places("conv") if place.key == "blocks.1.conv0")
    features = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(1))
    base = place.original.get_parameter("weight")
    expected = conv2d(features, base, stride=2, padding=1) + conv2d(features, parameters[f"{place.key}.tsa"], stride=2)
    torch.testing.assert_close(place.current(features), expected)


def test_the_3x3_convolutions_of_the_blocks_and_no_others(tiny_resnet: Path) -> None:
    keys = METHODS.build("tsa").insert(load_backbone(str(tiny_resnet)), _INIT)
    assert list(keys) == [f"blocks.{block}.conv{number}.tsa" for block in (0, 1) for number in (0, 1)]
    everything = METHODS.build("tsa(targets='all', alignment=true)").insert(load_backbone(str(tiny_resnet)), _INIT)
    assert everything.keys() - keys.keys() == {"blocks.1.shortcut.conv.tsa", "readout.alignment"}


@pytest.mark.parametrize("method", ["tsa", "tsa(targets='all', alignment=true)"])
def test_it_starts_at_the_frozen_model_to_the_bit(tiny_resnet: Path, method: str) -> None:
    backbone = load_backbone(str(tiny_resnet))
    built = METHODS.build(method)
    built.insert(backbone, _INIT)
    assert built.starts_frozen
    assert torch.equal(backbone(_pixels()), load_backbone(str(tiny_resnet))(_pixels()))


def test_the_paper_s_start_is_near_it(tiny_resnet: Path) -> None:
    backbone = load_backbone(str(tiny_resnet))
    built = METHODS.build("tsa(init='identity')")
    parameters = built.insert(backbone, _INIT)
    assert not built.starts_frozen
    for parameter in parameters.values():
        rows, columns = parameter.shape[:2]
        assert torch.equal(parameter[:, :, 0, 0], 1e-4 * torch.eye(rows, columns))
    found, frozen = backbone(_pixels()), load_backbone(str(tiny_resnet))(_pixels())
    assert not torch.equal(found, frozen)
    torch.testing.assert_close(found, frozen, atol=1e-2, rtol=1e-2)


def test_alignment_is_a_linear_map_of_the_feature(tiny_resnet: Path) -> None:
    backbone = load_backbone(str(tiny_resnet))
    built = METHODS.build("tsa(alignment=true)")
    difference = built.insert(backbone, _INIT)["readout.alignment"]
    feature = backbone(_pixels())
    difference.data = torch.randn(difference.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(backbone(_pixels()), feature @ (torch.eye(16) + difference).T)
    assert not built.mergeable
    readout = backbone.place("readout")
    assert isinstance(readout.current, Inserted)
    with pytest.raises(NotMergeable):
        readout.current.merged(readout.original)


def test_counts_on_resnet_50() -> None:
    """One 3x3 convolution of width w in each bottleneck; with ``all`` also w_in x w, w x 4w and the shortcuts."""
    widths = [width for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)) for _ in range(depth)]
    small = sum(width**2 for width in widths)
    inputs = [64, *(4 * width for width in widths[:-1])]
    ones = sum(i * w + w * 4 * w for i, w in zip(inputs, widths, strict=True))
    shortcuts = sum(i * 4 * w for i, w in zip(inputs, widths, strict=True) if i != 4 * w)

    def count(method: str) -> int:
        return sum(p.numel() for p in METHODS.build(method).insert(skeleton(resnet_record()), _META).values())

    assert count("tsa") == small == 1_257_472
    assert count("tsa(targets='all')") == small + ones + shortcuts
    assert count("tsa(alignment=true)") == small + 2048**2
    assert count("tsa(init='identity')") == small
