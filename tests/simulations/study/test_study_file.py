from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from simulations.study.study_file import Study

_ROOT = Path(__file__).parents[3]


def _write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "study.yaml").write_text(text)
    return tmp_path / "study.yaml"


def test_defaults(tmp_path: Path) -> None:
    study = Study.load(_write(tmp_path, "name: a\nmethods: [head, lora]\n"))
    assert study.seeds == [0, 1, 2]
    assert study.partitions == ["auto"]
    assert study.learning_rate_scales == [0.3, 1.0, 3.0]
    assert (study.partition_seeds, study.references, study.run, study.overrides) == ("per-seed", None, {}, {})


def test_the_example_in_the_docs_is_a_study() -> None:
    study = Study.load(_ROOT / "docs" / "example-study.yaml")
    assert study.settings("lora(rank=4)+layernorm")["personal"] == "layernorm"
    assert "personal" not in study.settings("head")


def test_numbers_in_exponent_form_are_numbers(tmp_path: Path) -> None:
    text = "name: a\nmethods: [head]\nrun: {learning-rate: 1e-3, head-learning-rate: 5.E-3}\n"
    study = Study.load(_write(tmp_path, text))
    assert study.run == {"learning-rate": 0.001, "head-learning-rate": 0.005}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nmethods: [head]\nseed: [1]\n", "has no key 'seed'. Did you mean 'seeds'?"),
        ("name: a\n", "study.yaml': 'methods' is missing."),
        ("name: a\nmethods: []\n", "methods"),
        ("name: a/b\nmethods: [head]\n", "a plain name is needed"),
        ("name: a\nmethods: head\n", "methods='head'"),
        ("name: a\nmethods: [lora+head, head + lora]\n", "'head + lora' is there twice"),
        ("name: a\nmethods: [lora(rank=4, alpha=8)]\n", "quote what has a comma"),
        ("name: a\nmethods: [head]\npartitions: [iid, ' iid']\n", "' iid' is there twice"),
        ("name: a\nmethods: [head]\nseeds: [0, 0]\n", "'0' is there twice"),
        ("name: a\nmethods: [head]\nseeds: [-1]\n", "seeds.0=-1"),
        ("name: a\nmethods: [head]\nseeds: ['1']\n", "seeds.0='1'"),
        ("name: a\nmethods: [head]\nlearning-rate-scales: [0]\n", "learning-rate-scales.0=0"),
        ("name: a\nmethods: [head]\nlearning-rate-scales: [.inf]\n", "learning-rate-scales.0=inf"),
        ("name: a\nmethods: [head]\nlearning-rate-scales: []\n", "learning-rate-scales"),
        ("name: a\nmethods: [head]\npartition-seeds: varied\n", "partition-seeds='varied'"),
        ("name: a\nmethods: [head]\nrun: {rouns: 3}\n", "run: unknown key 'rouns'. Did you mean 'rounds'?"),
        ("name: a\nmethods: [head]\nrun: {method: lora}\n", "'method' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {seed: 1}\n", "'seed' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {partition: iid}\n", "'partition' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {learning-rate-scale: 2.0}\n", "'learning-rate-scale' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {run-name: x}\n", "'run-name' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {runs-dir: x}\n", "say where with --out"),
        ("name: a\nmethods: [head]\nrun: {references: all}\n", "'references' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {mode: pooled}\n", "'mode' is set by the study"),
        ("name: a\nmethods: [head]\nrun: {partition-seed: 1}\n", "write partition-seeds: fixed"),
        ("name: a\nmethods: [head]\noverrides: {heat: {rounds: 1}}\n", "Did you mean 'head'?"),
        ("name: a\nmethods: [head]\noverrides: {head: {sites: 3}}\n", "must be the same for all methods"),
        ("name: a\nmethods: [head]\noverrides: {head: {method: lora}}\n", "'method' is set by the study"),
        ("name: a\nname: b\nmethods: [head]\n", "line 2: 'name' is there twice"),
        ("- name\n", "Expected lines of key: value"),
        ("name: [\n", "study.yaml"),
        ("1: a\n", "the key 1 is not text"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Study.load(_write(tmp_path, text))
    assert message in str(raised.value)
    assert not str(raised.value).endswith(("..", "?."))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Name a YAML file"):
        Study.load(tmp_path / "none.yaml")


def test_a_fixed_partition_may_have_a_seed_of_its_own(tmp_path: Path) -> None:
    text = "name: a\nmethods: [head]\npartition-seeds: fixed\nrun: {partition-seed: 4}\n"
    assert Study.load(_write(tmp_path, text)).run == {"partition-seed": 4}
