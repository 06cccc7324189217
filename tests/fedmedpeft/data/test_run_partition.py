from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError, Source, build_source
from fedmedpeft.data.run_partition import DEFAULT_SITES, check_partition_name, partition_for


@pytest.fixture(scope="module")
def source() -> Source:
    return build_source("phantoms(images=240, scanners=3, size=16)")


def _config(partition: str) -> RunConfig:
    return RunConfig.from_mapping({"partition": partition})


@pytest.mark.parametrize(
    ("sites", "partitioner", "found"), [(0, "natural", 3), (3, "natural", 3), (2, "dirichlet(alpha=0.5)", 2)]
)
def test_auto_takes_the_sites_of_the_data_where_they_fit(
    source: Source, sites: int, partitioner: str, found: int
) -> None:
    partition = partition_for(_config("auto"), source, sites)
    assert (partition.partitioner, len(partition.sites)) == (partitioner, found)


def test_without_a_number_there_is_a_default(source: Source) -> None:
    assert len(partition_for(_config("iid"), source, 0).sites) == DEFAULT_SITES


def test_a_saved_partition_is_used_as_it_is(source: Source, tmp_path: Path) -> None:
    made = partition_for(_config("iid"), source, 2)
    made.save(tmp_path / "p.json")
    config = _config(f"file(path={tmp_path / 'p.json'})")
    assert partition_for(config, source, 0).hash() == made.hash()
    with pytest.raises(ConfigError, match="num-supernodes=2"):
        partition_for(config, source, 3)
    with pytest.raises(DataError, match="other data"):
        partition_for(config, build_source("phantoms(images=120, scanners=3, size=16)"), 2)


def test_a_saved_partition_must_give_every_site_enough(source: Source, tmp_path: Path) -> None:
    partition_for(_config("iid"), source, 2).save(tmp_path / "p.json")
    config = _config(f"file(path={tmp_path / 'p.json'})").model_copy(update={"min_train_per_site": 1000})
    with pytest.raises(DataError, match="min-train-per-site is 1000"):
        partition_for(config, source, 2)


def test_every_process_arrives_at_the_same(source: Source) -> None:
    assert len({partition_for(_config("dirichlet"), source, 3).hash() for _ in range(3)}) == 1


@pytest.mark.parametrize("text", ["file", "file(path=a, x=1)", "naturall", "dirichlet(alfa=1)"])
def test_names_and_options_are_checked_without_data(text: str) -> None:
    with pytest.raises(ConfigError):
        check_partition_name(text)
    for good in ("auto", "natural", "file(path=a.json)"):
        check_partition_name(good)
