from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError
from fedmedpeft.data.run_partition import DEFAULT_SITES
from simulations.preflight import check_components, plan_federation

_DATA = "phantoms(images=240, scanners=3, size=32)"


def _config(**changes: object) -> RunConfig:
    return RunConfig.from_mapping({"data": _DATA, "min-train-per-site": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "sites"),
    [
        ({}, 3),
        ({"partition": "iid"}, DEFAULT_SITES),
        ({"partition": "iid", "sites": 7}, 7),
    ],
)
def test_the_number_of_sites(changes: dict[str, object], sites: int) -> None:
    federation = plan_federation(_config(**changes))
    assert federation.sites == federation.config.sites == sites


def test_a_partition_file_says_how_many_sites_there_are(tmp_path: Path) -> None:
    plan_federation(_config(partition="iid", sites=5)).partition.save(tmp_path / "five.json")
    again = plan_federation(_config(partition=f"file(path='{tmp_path}/five.json')"))
    assert again.sites == 5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": "phantms"}, ConfigError, "Did you mean 'phantoms'?"),
        ({"data": "medmnist(path=/nowhere.npz)"}, DataError, "does not exist"),
        ({"partition": "dirichlt(alpha=1)"}, ConfigError, "Did you mean 'dirichlet'?"),
        ({"partition": "dirichlet(beta=1)"}, ConfigError, "no option 'beta'"),
        ({"partition": "iid", "sites": 4, "min-train-per-site": 100}, DataError, "min_train_per_site=100"),
        ({"partition": "iid", "sites": 1}, ConfigError, "min-sites=2"),
        ({"sites": 2, "partition": "natural"}, ConfigError, "sites=2"),
    ],
)
def test_data_that_cannot_be_used_stops_the_run(changes: dict[str, object], error: type, message: str) -> None:
    with pytest.raises(error) as raised:
        plan_federation(_config(**changes))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "lorra"}, "Did you mean 'lora'?"),
        ({"method": "lora(rnk=4)"}, "Did you mean 'rank'?"),
        ({"strategy": "fedavgg"}, "Did you mean 'fedavg"),
        ({"strategy": "krum(malicious=2)"}, "needs"),
        ({"backbone": "/nowhere/vit"}, "nor a directory on this machine"),
        ({"image-size": 31}, "image_size=31"),
        ({"device": "cuda:99"}, "there is no GPU"),
    ],
)
def test_components_that_do_not_exist_stop_the_run(
    tiny_backbone: Path, changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    federation = plan_federation(_config(**{"backbone": str(tiny_backbone), **changes}))
    with pytest.raises(ConfigError) as raised:
        check_components(federation)
    assert message in str(raised.value)


def test_a_sound_configuration_passes(tiny_backbone: Path) -> None:
    check_components(plan_federation(_config(backbone=str(tiny_backbone), method="lora+vpt-deep")))
