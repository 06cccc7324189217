from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from simulations.study.cell import Cell
from simulations.study.plan import make_plan
from tests.simulations.study.fakes import study


def _coordinates(cells: list[Cell]) -> list[tuple[str, str, int, float]]:
    return [(cell.kind, cell.method, cell.seed, cell.scale) for cell in cells]


def test_the_search_comes_first_and_the_chosen_run_is_not_repeated(tiny_backbone: Path) -> None:
    plan = make_plan(study(tiny_backbone, seeds=[3, 4]))
    assert _coordinates(plan.first()) == [
        ("federated", method, 3, scale) for method in ("head", "layernorm") for scale in (0.5, 1.0)
    ]
    rest = plan.rest({("head", "auto"): 0.5, ("layernorm", "auto"): 1.0})
    assert _coordinates(rest) == [("federated", "head", 4, 0.5), ("federated", "layernorm", 4, 1.0)]
    assert plan.runs == {"head": 3, "layernorm": 3}
    assert _coordinates(plan.rest({("head", "auto"): 0.5})) == [("federated", "head", 4, 0.5)]


def test_every_cell_is_a_complete_configuration(tiny_backbone: Path) -> None:
    plan = make_plan(study(tiny_backbone, overrides={"head": {"local-steps": 7}}, partitions=["iid", "natural"]))
    for cell in plan.first():
        assert cell.config.sites == len(plan.federations[cell.partition, cell.seed].partition.sites)
        assert cell.config.partition_seed == cell.seed
        assert cell.config.references == "none"
        assert cell.config.local_steps == (7 if cell.method == "head" else 2)
    cells = [*plan.first(), *plan.rest({(m, p): 1.0 for m in ("head", "layernorm") for p in ("iid", "natural")})]
    assert len({cell.key for cell in cells}) == len({cell.name for cell in cells}) == len(cells)


def test_partition_seeds(tiny_backbone: Path) -> None:
    varied = make_plan(study(tiny_backbone, partitions=["iid"]))
    assert len({federation.partition.hash() for federation in varied.federations.values()}) == 2
    fixed = make_plan(study(tiny_backbone, partitions=["iid"], **{"partition-seeds": "fixed"}))
    assert len({federation.partition.hash() for federation in fixed.federations.values()}) == 1


def test_references_take_the_scale_that_was_chosen_for_the_same_method(tiny_backbone: Path) -> None:
    plan = make_plan(study(tiny_backbone, methods=["lora+layernorm", "head"], references="layernorm+lora"))
    chosen = {("lora+layernorm", "auto"): 0.5, ("head", "auto"): 1.0}
    references = [cell for cell in plan.rest(chosen) if cell.kind != "federated"]
    assert [(cell.kind, cell.seed, cell.scale) for cell in references] == [
        (kind, seed, 0.5) for kind in ("local-only", "pooled") for seed in (0, 1)
    ]
    assert plan.runs["pooled"] == 2
    other = make_plan(study(tiny_backbone, references="bitfit"))
    assert {c.scale for c in other.rest({("head", "auto"): 0.5}) if c.kind != "federated"} == {1.0}


def test_sizes_are_of_what_is_exchanged(tiny_backbone: Path) -> None:
    sizes = make_plan(study(tiny_backbone, methods=["head", "layernorm", "lora+layernorm"])).sizes
    # 5 LayerNorms x 2 x 16; a head of 4 x 17. In the composition LayerNorm stays at the sites.
    assert (sizes["layernorm"].method_parameters, sizes["layernorm"].head_parameters) == (160, 68)
    assert sizes["head"].payload_bytes == 68 * 4
    assert sizes["lora+layernorm"].method_parameters == 2 * 2 * 2 * 8 * 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["head", "lorra"]}, "Did you mean 'lora'?"),
        ({"methods": ["lora(rnk=2)"]}, "no option 'rnk'"),
        ({"partitions": ["dirichlt"]}, "Did you mean 'dirichlet'?"),
        ({"references": "lorra"}, "Did you mean 'lora'?"),
        ({"overrides": {"head": {"personal": "head"}}}, "Method 'head', partition 'auto'"),
        ({"overrides": {"head": {"rounds": 0}}}, "rounds=0"),
        ({"run": {"data": "phantoms(images=120, scanners=3, size=32)", "val-fraction": 0.0}}, "no site has validation"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tiny_backbone: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_plan(study(tiny_backbone, **changes))
    assert message in str(raised.value)


def test_without_a_search_no_validation_images_are_needed(tiny_backbone: Path) -> None:
    run = {"backbone": str(tiny_backbone), "data": "phantoms(images=120, scanners=3, size=32)", "val-fraction": 0.0}
    plan = make_plan(study(tiny_backbone, run=run, **{"learning-rate-scales": [1.0]}))
    assert not plan.searches
