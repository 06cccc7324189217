"""Checkpoints of METER and M3AE that are damaged, incomplete or something else."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fedmedpeft.backbones import load_backbone, load_record
from fedmedpeft.components import ConfigError
from tests.golden_meter import GoldenMeter, write_checkpoint

_Weights = dict[str, torch.Tensor]


@pytest.fixture
def case(golden: Path, tmp_path: Path) -> GoldenMeter:
    return GoldenMeter.read(golden / "meter", tmp_path)


@pytest.fixture
def file(case: GoldenMeter, tmp_path: Path) -> Path:
    return tmp_path / "golden.ckpt"


def test_the_record_is_read_from_shapes(case: GoldenMeter) -> None:
    record = load_record(case.backbone_text)
    assert record == case.load().record
    sizes = record.architecture
    assert sizes.family == "meter"
    assert (sizes.vision.depth, sizes.vision.heads, sizes.vision.image_size) == (2, 3, 48)
    assert (sizes.hidden_size, sizes.depth, sizes.heads, sizes.ffn_size) == (40, 2, 4, 160)
    assert record.preprocessing.interpolation == "bicubic"
    assert record.preprocessing.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert record.preprocessing.std == pytest.approx((0.2686, 0.2613, 0.2758), abs=1e-4)


def test_either_format_has_the_same_fingerprint(case: GoldenMeter, file: Path) -> None:
    mark = case.load().fingerprint
    save_file(case.weights, file.with_suffix(".safetensors"))
    stored = replace(case, backbone_text=case.backbone_text.replace(".ckpt", ".safetensors"))
    assert stored.load().fingerprint == mark
    assert load_record(stored.backbone_text) == stored.load().record
    torch.save(case.weights, file)  # without Lightning's frame
    assert case.load().fingerprint == mark
    torch.save(case.weights, file, _use_new_zipfile_serialization=False)  # as torch wrote it before 1.6
    assert case.load().fingerprint == mark


def test_half_precision_is_widened(case: GoldenMeter, file: Path) -> None:
    marks = []
    for dtype in (torch.float16, torch.float32):
        write_checkpoint({key: tensor.half().to(dtype) for key, tensor in case.weights.items()}, file)
        marks.append(case.load().fingerprint)
    assert marks[0] == marks[1]


def test_a_third_type_of_nlvr2_is_left_out(case: GoldenMeter, file: Path) -> None:
    mark = case.load().fingerprint
    kinds = case.weights["token_type_embeddings.weight"]
    write_checkpoint({**case.weights, "token_type_embeddings.weight": torch.cat([kinds, kinds[1:]])}, file)
    assert case.load().fingerprint == mark


def test_heads_and_leftovers_do_not_matter(case: GoldenMeter, file: Path) -> None:
    mark = case.load().fingerprint
    backbone = {
        key: tensor
        for key, tensor in case.weights.items()
        if not key.startswith(("vqa_", "itm_", "mlm_", "vit_model.ln_", "vit_model.pos", "text_transformer.pooler"))
    }
    assert len(backbone) < len(case.weights)
    write_checkpoint(backbone, file)
    assert case.load().fingerprint == mark
    assert case.load().record.remarks == ()


_BLOCK = "vit_model.visual.transformer.resblocks.1"
_CROSS = "cross_modal_text_layers.1.crossattention.self.key.weight"


def _without(*names: str) -> Callable[[_Weights], _Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key not in names}


def _with(**tensors: torch.Tensor) -> Callable[[_Weights], _Weights]:
    return lambda weights: {**weights, **tensors}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without(_CROSS), r"1 tensors missing \(fusion.layers.1.text.cross.attention.k.weight\)"),
        (_without(f"{_BLOCK}.attn.in_proj_bias"), r"3 tensors missing \(vision.encoder.layers.1.self_attn.k_proj"),
        (_with(**{"cross_modal_text_layers.1.gate": torch.zeros(1)}), r"unknown \(cross_modal_text_layers.1.gate\)"),
        (_with(**{"vit_model.visual.proj": torch.zeros(48, 16)}), r"unknown \(vit_model.visual.proj\)"),
        (_with(**{_CROSS: torch.zeros(40, 41)}), r"another shape \(fusion.layers.1.text.cross.attention.k.weight\)"),
        (_with(**{f"{_BLOCK}.attn.in_proj_weight": torch.zeros(143, 48)}), r"unknown \(vit_model.visual.transformer"),
        (_with(**{_CROSS: torch.full((40, 40), torch.inf)}), "not finite"),
        (_without("vit_model.visual.conv1.weight"), "'vit_model.visual.conv1.weight' is missing or of another shape"),
        (_without("cross_modal_text_transform.weight"), "'cross_modal_text_transform.weight' is missing"),
        (
            _with(**{"vit_model.visual.positional_embedding": torch.zeros(11, 48)}),
            r"shape \(vision.embeddings.position",
        ),
        (lambda _: {"vit_model.layers.0.blocks.0.norm1.weight": torch.zeros(4)}, "Swin"),
        (lambda _: {"encoder.weight": torch.zeros(4)}, "no checkpoint of METER or M3AE"),
        (lambda _: {}, "no checkpoint of METER or M3AE"),
    ],
)
def test_half_a_checkpoint_is_refused(
    case: GoldenMeter, file: Path, change: Callable[[_Weights], _Weights], message: str
) -> None:
    write_checkpoint(change(case.weights), file)
    with pytest.raises(ConfigError, match=message):
        case.load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, r"16 tensors missing \(text.blocks.2"),
        ({"vocab_size": 120}, r"of another shape \(text.embed.word.weight\)"),
        ({"hidden_size": 64}, "of another shape"),
    ],
)
def test_another_text_tower_is_refused(case: GoldenMeter, file: Path, change: dict[str, int], message: str) -> None:
    path = file.parent / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        case.load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("hidden_size=48", "has hidden_size=40, not 48. Leave hidden_size out"),
        ("depth=6", "has depth=2, not 6"),
        ("vision_blocks=1", "brings what vision_blocks would say"),
    ],
)
def test_what_the_checkpoint_says_is_not_overruled(case: GoldenMeter, options: str, message: str) -> None:
    for load in (load_record, load_backbone):
        with pytest.raises(ConfigError, match=message):
            load(f"{case.backbone_text[:-1]}, {options})")


def test_heads_must_divide_the_width(case: GoldenMeter) -> None:
    with pytest.raises(ConfigError, match="multiple of heads=5.*Set vision_heads"):
        load_record(case.backbone_text.replace("vision_heads=3", "vision_heads=5"))
    with pytest.raises(ConfigError, match="hidden_size=40 must be a multiple of heads=12"):
        load_record(case.backbone_text.replace(" heads=4,", ""))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("cut", [0, 10, 3000, -200])
def test_a_truncated_file_is_refused(case: GoldenMeter, file: Path, suffix: str, cut: int) -> None:
    path = file.with_suffix(suffix)
    if suffix == ".safetensors":
        save_file(case.weights, path)
    path.write_bytes(path.read_bytes()[:cut])
    for load in (load_record, load_backbone):
        with pytest.raises(ConfigError, match=f"'golden{suffix}' cannot be read: it is damaged or cut short") as error:
            load(case.backbone_text.replace(".ckpt", suffix))
        assert str(error.value).count(str(path)) == 1  # as it was written in the configuration


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, {"epoch": 1}, 7])
def test_what_is_no_checkpoint_is_refused(case: GoldenMeter, file: Path, content: object) -> None:
    torch.save(content, file)
    with pytest.raises(ConfigError, match="there are no named tensors in it"):
        case.load()
    file.write_text("<html>404</html>")
    with pytest.raises(ConfigError, match="cannot be read"):
        case.load()


class _Payload:
    """What would run code where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return Path.write_text, (Path("/nowhere"), "boom")  # type: ignore[return-value]


def test_objects_in_the_file_are_not_unpickled(case: GoldenMeter, file: Path) -> None:
    torch.save({"state_dict": case.weights, "payload": _Payload()}, file)
    for load in (load_record, load_backbone):
        with pytest.raises(ConfigError, match="holds objects beside its tensors, which could run code here"):
            load(case.backbone_text)


def _lightning(monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> tuple[type, object]:
    """A callback's class and an object of hyper-parameters, as if Lightning were installed; removed again by undo()."""
    module = types.ModuleType("pytorch_lightning.stored")

    class Callback:
        pass

    class Parameters(dict[str, object]):
        def __setstate__(self, state: object) -> None:
            ran.append("state")

    for kind in (Callback, Parameters):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    parameters = Parameters(learning_rate=1e-5)
    parameters.__dict__["frozen"] = True
    return Callback, parameters


@pytest.mark.parametrize("installed", [True, False])
def test_what_lightning_stores_beside_the_tensors_is_left_alone(
    case: GoldenMeter, file: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    mark, ran = case.load().fingerprint, list[str]()
    callback, parameters = _lightning(monkeypatch, ran)
    content = {"callbacks": {callback: {"best": 0.5}}, "hyper_parameters": parameters, "state_dict": case.weights}
    torch.save(content, file)
    if not installed:
        monkeypatch.undo()
    assert case.load().fingerprint == mark
    assert load_record(case.backbone_text) == case.load().record
    assert not ran


def test_without_roberta_at_hand_it_is_said_how_to_give_it(
    case: GoldenMeter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="text='FacebookAI/roberta-base' is no directory.*write text=<its directory>"):
        load_backbone(f"meter(checkpoint='{tmp_path / 'golden.ckpt'}')")
