from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from simulations.settings import read_settings


def test_without_anything_the_defaults_with_an_absolute_runs_dir() -> None:
    expected = RunConfig().to_mapping() | {"runs-dir": str(Path("runs").absolute())}
    assert read_settings().to_mapping() == expected


def test_options_win_over_assignments_and_those_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("rounds = 3\nlocal-steps = 4\nseed = 5\n")
    config = read_settings(file, ["local-steps=6", "seed=7"], {"seed": 8, "rounds": None})
    assert (config.rounds, config.local_steps, config.seed) == (3, 6, 8)


def test_a_run_s_own_configuration_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps({"config": RunConfig(rounds=9).to_mapping(), "versions": {"flwr": "1"}}))
    assert read_settings(file).rounds == 9


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("method=lora(rank=4, targets='q,k')", "method", "lora(rank=4, targets='q,k')"),
        ("run-name='two words'", "run-name", "two words"),
        ("learning-rate=1", "learning-rate", 1.0),
        ("learning-rate = 1e-3", "learning-rate", 1e-3),
        ("keep-momentum=false", "keep-momentum", False),
        ("weighting=sqrt", "weighting", "sqrt"),
        ("run-name=3", "run-name", "3"),
    ],
)
def test_assignments_are_read_as_what_their_key_holds(assignment: str, key: str, value: object) -> None:
    assert read_settings(None, [assignment]).to_mapping()[key] == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rouns=3", "unknown key 'rouns'. Did you mean 'rounds'?"),
        ("rounds", "'rounds' is not an assignment"),
        ("rounds=many", "rounds='many'"),
        ("rounds=2.5", "rounds=2.5"),
        ("rounds=0", "rounds=0"),
        ("keep-momentum=yes", "keep-momentum='yes'"),
    ],
)
def test_what_does_not_fit_is_named(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_settings(None, [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"rounds 3", b"\xff\xfe", None])
def test_an_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broken.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(file)


def test_paths_are_absolute_because_the_run_starts_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()
    options = {"data": "manifest(path=a/b.csv, root='im ages')", "partition": "file(path=p.json)", "backbone": "vit"}
    config = read_settings(None, [], options)
    assert config.data == f"manifest(path='{tmp_path}/a/b.csv', root='{tmp_path}/im ages')"
    assert config.partition == f"file(path='{tmp_path}/p.json')"
    assert config.backbone == f"{tmp_path}/vit"


def test_paths_within_a_backbone_of_several_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    config = read_settings(None, [], {"backbone": "meter(vision=embedded, text=bert, hidden_size=32)"})
    assert config.backbone == f"meter(vision='embedded', text='{tmp_path}/bert', hidden_size=32)"
    named = read_settings(None, [], {"backbone": "meter(vision=google/vit, text=google/bert)"})
    assert named.backbone == "meter(vision=google/vit, text=google/bert)"


def test_a_term_of_an_ontology_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_settings(None, [], {"knowledge": "obo(path=hp.obo, root='HP:0000118')"})
    assert config.knowledge == f"obo(path='{tmp_path}/hp.obo', root='HP:0000118')"


def test_names_are_not_taken_for_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_settings(None, [], {"data": "medmnist(name=breastmnist, root='')", "backbone": "google/vit-base"})
    assert (config.data, config.backbone) == ("medmnist(name=breastmnist, root='')", "google/vit-base")
