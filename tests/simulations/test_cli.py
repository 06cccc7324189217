from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from fedmedpeft.cli import app
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest

_PHANTOMS = "phantoms(images=120, scanners=3, size=32)"
_SMALL = ("--data", _PHANTOMS, "--set", "min-train-per-site=1")


def _call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_dry_run_shows_command_and_configuration_and_starts_nothing(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMEDPEFT_FLWR_HOME", str(tmp_path / "home"))
    code, out, _ = _call(
        "run",
        "--dry-run",
        *_SMALL,
        "--backbone",
        tiny_backbone,
        "--method",
        "lora(rank=2)",
        "--runs-dir",
        tmp_path / "r",
    )
    assert code == 0
    assert "flwr run" in out
    assert "num-supernodes=3 client-resources-num-cpus=1" in out
    assert "# method = 'lora(rank=2)'" in out
    assert f"# runs-dir = '{tmp_path}/r'" in out
    assert "export FLWR_TELEMETRY_ENABLED=0" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "rouns=3"), "Did you mean 'rounds'?"),
        (("--data", "phantms"), "Did you mean 'phantoms'?"),
        (("--partition", "natral"), "Did you mean 'natural'?"),
        (("--method", "lorra"), "Did you mean 'lora'?"),
        (("--task", "vqaa"), "Did you mean 'vqa'?"),
        (("--mode", "federatd"), "mode='federatd'"),
        (("--cpus-per-site", "4096"), "Ask for no more"),
        (("--config", "/nowhere.toml"), "'/nowhere.toml' cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_starts(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.run_command.run", None)
    code, _, err = _call("run", *_SMALL, *arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_config_lists_every_key() -> None:
    code, out, _ = _call("config")
    assert code == 0
    assert all(key in out for key in RunConfig().to_mapping())
    assert {row["key"] for row in json.loads(_call("config", "--json")[1])} == set(RunConfig().to_mapping())


def test_methods_with_counts_and_one_with_its_options(tiny_backbone: Path) -> None:
    code, out, _ = _call("methods", "--backbone", tiny_backbone, "--classes", "3")
    assert code == 0
    assert "layernorm" in out
    assert out.index("Methods of Hugging Face peft") < out.index("peft:ia3")
    # 5 LayerNorms x 2 x 16, and a head of 3 x 17
    assert "160" in out
    assert "51" in out
    _, out, _ = _call("methods", "lora", "--backbone", tiny_backbone)
    assert "dropout" in out
    assert "Source: Hu et al." in out
    assert "take turns" not in out
    _, out, _ = _call("methods", "sba", "--backbone", tiny_backbone)
    assert "sba: parameters of one round; over a run up to 2,176 take turns." in out
    assert "where" in _call("methods", "head", "--backbone", tiny_backbone)[1].partition("Options of head")[2]


def test_estimate(tiny_backbone: Path) -> None:
    arguments = ("estimate", *_SMALL, "--backbone", tiny_backbone, "--method", "layernorm", "--rounds", "4")
    code, out, _ = _call(*arguments)
    assert code == 0
    assert "each of 4 rounds" in out
    assert "x less" in out
    content = json.loads(_call(*arguments, "--json")[1])
    assert content["total"]["down"] == sum(phase["down"] for phase in content["phases"].values())


def test_partition_make_show_plot_and_use(tmp_path: Path, tiny_backbone: Path) -> None:
    file, picture = tmp_path / "p.json", tmp_path / "p.png"
    code, out, _ = _call("partition", "make", file, *_SMALL, "--partition", "iid", "--sites", "2", "--seed", "3")
    assert code == 0
    partition = PartitionManifest.load(file)
    assert (len(partition.sites), partition.seed) == (2, 3)
    assert "SYNTHETIC" in out
    counts = json.loads(_call("partition", "show", file, "--json")[1])
    assert counts[partition.sites[1]]["test"][partition.classes[0]] == partition.counts()[1, 2, 0]
    assert str(partition.counts()[0, 0].sum()) in _call("partition", "show", file)[1]
    assert _call("partition", "plot", file, picture)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = _call(
        "estimate", *_SMALL, "--backbone", tiny_backbone, "--partition", f"file(path={file})", "--json"
    )
    assert (code, json.loads(out)["sites"]) == (0, 2)


def test_an_unknown_split_is_not_drawn(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    _call("partition", "make", file, *_SMALL)
    code, _, err = _call("partition", "plot", file, tmp_path / "p.png", "--split", "tets")
    assert code == 2
    assert "Did you mean 'test'?" in err


def test_evaluate_a_run_whose_heads_stayed_at_the_sites(personal_run: Path) -> None:
    code, out, _ = _call("evaluate", personal_run)
    assert code == 0
    assert "union" in out
    assert "head stayed at the sites" in out
    _, out, _ = _call("evaluate", personal_run, "--personal", "--split", "val")
    assert "scored by a model of its own" in out
    content = json.loads(_call("evaluate", personal_run / "adapter", "--json")[1])
    assert set(content) == {"scanner-00", "scanner-01", "scanner-02", "union"}


def test_evaluate_on_another_partition_or_one_site(personal_run: Path) -> None:
    whole = json.loads(_call("evaluate", personal_run, "--json")[1])["union"]["samples"]
    code, out, err = _call("evaluate", personal_run, "--partition", "iid", "--sites", "1", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert list(content) == ["site-0", "union"]
    assert content["union"]["samples"] == pytest.approx(whole, abs=3)


@pytest.mark.parametrize("given", [[], ["--set", "seed=3"], ["--partition", "iid"]])
def test_evaluate_takes_no_data_for_that_of_hospitals(personal_run: Path, tmp_path: Path, given: list[str]) -> None:
    run = shutil.copytree(personal_run, tmp_path / "hospitals")
    content = tomllib.loads((run / "config.toml").read_text())
    content["federation"]["partition-hash"] = ""
    (run / "config.toml").write_text(tomli_w.dumps(content))
    code, _, err = _call("evaluate", run, *given)
    assert code == 2
    assert "data of their own, which is not here" in err
    data = str(content["config"]["data"])
    assert _call("evaluate", run, "--data", data)[0] == _call("evaluate", run, "--set", f"data={data}")[0] == 0


def test_evaluate_refuses_what_is_no_run(tmp_path: Path) -> None:
    code, _, err = _call("evaluate", tmp_path)
    assert code == 2
    assert "neither a run" in err
