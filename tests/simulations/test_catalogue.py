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


def test_all_methods_smallest_first_on_any_backbone(tiny_backbone: Path) -> None:
    costs = catalogue.method_costs([], str(tiny_backbone), 2)
    assert {c.name for c in costs} == set(METHODS.names())
    assert [c.bytes for c in costs] == sorted(c.bytes for c in costs)
    assert all(c.summary and c.source for c in costs)


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
