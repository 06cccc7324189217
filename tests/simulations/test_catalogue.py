from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.methods import METHODS
from simulations import catalogue


def test_every_key_with_its_default_and_a_meaning() -> None:
    settings = catalogue.settings()
    assert {s.key: s.default for s in settings} == RunConfig().to_mapping()
    assert all(s.meaning for s in settings)
    types = {s.key: s.type for s in settings}
    assert (types["rounds"], types["weighting"]) == ("int", "samples | sqrt | uniform")


def test_counts_on_vit_base_are_the_published_ones() -> None:
    costs = {c.name: c for c in catalogue.method_costs(["head", "layernorm", "lora", "full"], "vit-b", 10)}
    assert costs["full"].method_parameters == 85_798_656
    # 12 blocks x (q and v) x (down 8x768 + up 768x8); 25 LayerNorms x 2 x 768; a head of 10 x (768 + 1)
    assert costs["lora"].method_parameters == 12 * 2 * 2 * 8 * 768
    assert costs["layernorm"].method_parameters == 25 * 2 * 768
    assert all(c.head_parameters == 7690 for c in costs.values())
    assert costs["lora"].bytes == 4 * (294_912 + 7690)
    assert costs["full"].share == 1
    assert costs["head"].share == pytest.approx(7690 / (85_798_656 + 7690))


def test_counts_on_meter_are_the_published_ones() -> None:
    names = ["kpl", "layernorm", "attention", "ffn", "full"]
    costs = {c.name: c.method_parameters for c in catalogue.method_costs(names, "meter-b", 222)}
    assert costs["kpl"] == 11_749_376
    assert costs["layernorm"] == 130_560
    assert (costs["attention"], costs["ffn"]) == (111_031_296, 165_285_120)
    assert costs["full"] == 319_474_688 - 590_592 - 40_448  # without what nothing reads


def test_bytes_if_encoded_otherwise() -> None:
    """301,064 numbers in 50 tensors: four, two or one byte each, the last with a scale for each tensor."""
    (cost,) = catalogue.method_costs(["lora"], "vit-b", 8)
    assert (cost.bytes, cost.bytes_if_float16, cost.bytes_if_int8) == (1_204_256, 602_128, 301_264)


def test_all_methods_smallest_first_on_any_backbone(tiny_backbone: Path) -> None:
    costs = catalogue.method_costs([], str(tiny_backbone), 2)
    assert {c.name for c in costs} == set(METHODS.names())
    counted = [c.bytes for c in costs if not c.needs]
    assert counted == sorted(counted)
    assert min(counted) > 0
    assert all(c.summary and c.source for c in costs)


def test_methods_that_a_backbone_cannot_have_come_last_with_what_they_need(
    tiny_backbone: Path, tiny_clip_pair: Path
) -> None:
    needs = {c.name: c.needs for c in catalogue.method_costs([], str(tiny_backbone), 2)}
    assert needs["textual-prompts"] == "text tower"
    assert list(needs.values()) == sorted(needs.values(), key=bool)
    (cost,) = catalogue.method_costs(["textual-prompts"], str(tiny_clip_pair), 2)
    assert (cost.method_parameters, cost.head_parameters, cost.needs) == (4 * 8, 0, "")
    with pytest.raises(ConfigError, match="acts on 'text tower', which backbone 'vit-b/16' \\(a vit\\) does not have"):
        catalogue.method_costs(["textual-prompts"], "vit-b", 2)


def test_a_composition_is_counted_as_a_whole(tiny_backbone: Path) -> None:
    one, other, both = (
        catalogue.method_costs([name], str(tiny_backbone), 2)[0]
        for name in ("lora(rank=2)", "vpt-deep", "lora(rank=2)+vpt-deep")
    )
    assert both.method_parameters == one.method_parameters + other.method_parameters


def test_options_of_a_method() -> None:
    options = {o.key: o for o in catalogue.method_options("lora")}
    assert options["rank"].default == 8
    assert options["rank"].meaning
    with pytest.raises(ConfigError, match="Did you mean 'lora'"):
        catalogue.method_options("lorra")


def test_json_holds_the_same() -> None:
    assert {row["key"] for row in json.loads(catalogue.as_json(catalogue.settings()))} == set(RunConfig().to_mapping())


@pytest.mark.parametrize(
    ("method", "averaging", "dp_capable", "mergeable"),
    [
        ("layernorm", "exact", True, True),
        ("lora", "factors", True, True),
        ("lora(factors='ffa')", "exact", True, True),
        ("lora(factors='rolora')+layernorm", "exact", True, True),
        ("lora+layernorm", "factors", True, True),
        ("vpt-deep", "exact", True, False),
        ("layernorm+vpt-deep", "exact", True, False),
        ("peft:ia3", "exact", False, True),
        ("lora+peft:lily(targets='o')", "factors", False, False),
    ],
)
def test_what_can_be_done_with_a_composition(
    tiny_backbone: Path, method: str, averaging: str, dp_capable: bool, mergeable: bool
) -> None:
    (cost,) = catalogue.method_costs([method], str(tiny_backbone), 2)
    assert (cost.averaging, cost.dp_capable, cost.mergeable) == (averaging, dp_capable, mergeable)
