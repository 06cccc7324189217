from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ResNetForImageClassification, ResNetModel

from fedmedpeft.backbones import Backbone, load_backbone, load_record, skeleton
from fedmedpeft.components import ConfigError
from fedmedpeft.data.site_data import Split
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification
from fedmedpeft.training import FeatureCache
from tests.tiny_resnet import resnet_record, save_resnet

_LAYERS = {
    "basic": {"hidden_sizes": (8, 16), "depths": (2, 1), "layer_type": "basic"},
    "bottleneck": {"hidden_sizes": (16, 32), "depths": (2, 1), "layer_type": "bottleneck"},
    "early": {
        "hidden_sizes": (16,),
        "depths": (1,),
        "layer_type": "bottleneck",
        "downsample_in_first_stage": True,
        "downsample_in_bottleneck": True,
    },
}


def _images(size: int = 32) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def _numel(backbone: Backbone, *roles: str) -> int:
    return sum(p.numel() for place in backbone.places(*roles) for p in place.original.parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", list(_LAYERS))
@pytest.mark.parametrize("size", [32, 45])
def test_features_are_those_of_hugging_face_to_the_bit(tmp_path: Path, layers: str, size: int) -> None:
    save_resnet(tmp_path, **_LAYERS[layers])
    theirs = ResNetModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = theirs(_images(size)).pooler_output.flatten(1)
        found = load_backbone(str(tmp_path), image_size=size).train()(_images(size))
    assert torch.equal(found, expected)


def test_a_checkpoint_with_a_classifier_is_read(tiny_resnet: Path, tmp_path: Path) -> None:
    model = ResNetForImageClassification.from_pretrained(tiny_resnet, num_labels=3)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(load_backbone(str(tmp_path))(_images()), load_backbone(str(tiny_resnet))(_images()))


def test_places_have_keys_of_their_own(tiny_resnet: Path) -> None:
    backbone = load_backbone(str(tiny_resnet))
    assert [place.key for place in backbone.places("conv")] == [
        "embed.conv0",
        "blocks.0.conv0",
        "blocks.0.conv1",
        "blocks.1.conv0",
        "blocks.1.conv1",
        "blocks.1.shortcut.conv",
    ]
    assert [place.key for place in backbone.places("batchnorm")][-1] == "blocks.1.shortcut.batchnorm"
    assert [place.key for place in backbone.places("embed", "block", "readout")] == [
        "embed",
        "blocks.0",
        "blocks.1",
        "readout",
    ]
    assert {place.channel_dim for place in backbone.places("embed", "block", "conv", "batchnorm")} == {1}


def test_every_parameter_lies_in_one_place_and_has_its_published_name(tiny_resnet: Path) -> None:
    backbone, published = load_backbone(str(tiny_resnet)), ResNetModel.from_pretrained(tiny_resnet)
    own = backbone.original_parameters()
    assert len({id(parameter) for parameter in own.values()}) == len(own)
    by_published_name = {backbone.published_name(key): parameter for key, parameter in own.items()}
    assert by_published_name.keys() == dict(published.named_parameters()).keys()
    assert all(torch.equal(by_published_name[name], parameter) for name, parameter in published.named_parameters())
    assert "blocks.1.shortcut.batchnorm.weight" in own


def test_counts_of_resnet_50() -> None:
    """Stem 7x7; per stage of width w: in -> w, w -> w (3x3), w -> 4w in each layer, and one shortcut."""
    convolutions, channels, inputs = 3 * 64 * 49, 64, 64
    for width, depth in zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True):
        convolutions += inputs * 4 * width
        channels += 4 * width
        for _ in range(depth):
            convolutions += inputs * width + 9 * width**2 + width * 4 * width
            channels += 6 * width
            inputs = 4 * width
    backbone = skeleton(resnet_record())
    assert _numel(backbone, "conv") == convolutions
    assert _numel(backbone, "batchnorm") == 2 * channels == 53_120
    assert sum(p.numel() for p in backbone.original_parameters().values()) == convolutions + 53_120 == 23_508_032
    assert (len(backbone.places("block")), len(backbone.places("conv")), backbone.feature_size) == (16, 53, 2048)


def test_counts_of_resnet_18() -> None:
    """11,689,512 as published, of which the classifier for ImageNet has 512 * 1000 + 1000."""
    backbone = skeleton(resnet_record(layer_type="basic", hidden_sizes=(64, 128, 256, 512), depths=(2, 2, 2, 2)))
    assert sum(p.numel() for p in backbone.original_parameters().values()) == 11_689_512 - 513_000
    assert len(backbone.places("conv")) == 20


def test_the_record_needs_no_weights_and_knows_imagenet_s_colours(tiny_resnet: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_resnet, tmp_path / "copy"))
    expected = load_backbone(str(directory)).record
    (directory / "model.safetensors").unlink()
    record = load_record(str(directory))
    assert (record.architecture, record.preprocessing) == (expected.architecture, expected.preprocessing)
    assert record.preprocessing.mean == (0.485, 0.456, 0.406)
    assert record.preprocessing.std == (0.229, 0.224, 0.225)
    assert record.preprocessing.image_size == 32


def test_a_published_configuration_without_a_size_means_224(tiny_resnet: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_resnet / "config.json").read_text())
    del config["image_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_record(str(tmp_path)).preprocessing.image_size == 224


def test_any_size_from_32(tiny_resnet: Path) -> None:
    original, larger = load_backbone(str(tiny_resnet)), load_backbone(str(tiny_resnet), image_size=57)
    assert larger(_images(57)).shape == (3, 16)
    for one, other in zip(original.state_dict().items(), larger.state_dict().items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
    assert original.fingerprint != larger.fingerprint
    with pytest.raises(ConfigError, match="image_size=31: Input should be greater than or equal to 32"):
        load_backbone(str(tiny_resnet), image_size=31)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_the_fingerprint_covers_running_statistics(tiny_resnet: Path, tmp_path: Path, statistic: str) -> None:
    directory = Path(shutil.copytree(tiny_resnet, tmp_path / "copy"))
    tensors = load_file(directory / "model.safetensors")
    name = next(name for name in tensors if name.endswith(statistic))
    save_file({**tensors, name: tensors[name] + 1e-3}, directory / "model.safetensors")
    assert load_backbone(str(directory)).fingerprint != load_backbone(str(tiny_resnet)).fingerprint


def test_a_missing_tensor_is_refused(tiny_resnet: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_resnet, tmp_path / "copy"))
    tensors = load_file(directory / "model.safetensors")
    tensors.pop(next(name for name in tensors if name.endswith("running_var")))
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ConfigError, match="1 tensors missing"):
        load_backbone(str(directory))


def test_cached_features_are_the_backbone_s(tiny_resnet: Path) -> None:
    learner = Learner(load_backbone(str(tiny_resnet)), "head", Classification(("a", "b")), 0)
    assert learner.keeps_features
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    split = Split(images, torch.arange(5) % 2, np.arange(5))
    with torch.no_grad():
        expected = learner.features(split.images)
    torch.testing.assert_close(FeatureCache().features(learner, split), expected)
