from __future__ import annotations

from fedmedpeft.config import RunConfig
from simulations.study.cell import Cell, identity


def _cell(partition_hash: str = "p", **values: object) -> Cell:
    return Cell(RunConfig.from_mapping({"method": "lora(rank=4)+layernorm", **values}), partition_hash)


def test_whatever_decides_the_result_changes_the_key() -> None:
    keys = {_cell().key, _cell("q").key, _cell(rounds=3).key, _cell(**{"learning-rate-scale": 0.3}).key}
    keys.add(identity(_cell().config.to_mapping(), "p", "0.0.1"))
    assert len(keys) == 5


def test_where_a_run_is_written_does_not_change_the_key() -> None:
    assert _cell().key == _cell(**{"runs-dir": "/elsewhere", "run-name": "x"}).key


def test_a_name_is_a_plain_and_readable_directory_name() -> None:
    name = _cell(seed=3, partition="file(path='/a/b c.json')").name
    assert name.startswith("lora-rank-4-layernorm-file-path-a-b-c.json-s3-x1-")
    assert RunConfig.from_mapping({"run-name": name}).run_name == name
    assert len(_cell(data="x", method="+".join(["lora(rank=123456, alpha=1.23456)", "bitfit", "vpt-deep"])).name) < 100


def test_references_are_named_by_their_kind() -> None:
    assert _cell(mode="pooled").name.startswith("pooled-lora")
    assert _cell(mode="pooled").group == "pooled"
    assert _cell().group == "lora(rank=4)+layernorm"
