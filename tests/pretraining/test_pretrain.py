from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from pretraining.artefact import read_artefact
from pretraining.pretrain import Recipe, main, parse_phases, pretrain

TINY = Recipe(categories=4, renderings=4, phases=((16, 1), (32, 1)), batch=8, width=64, depth=1)


def test_two_steps_write_an_artefact_that_holds_the_averaged_weights(tmp_path: Path) -> None:
    average = pretrain(TINY, tmp_path, bf16=False)
    stored = read_artefact(tmp_path).state_dict()

    assert stored.keys() == average.keys()
    for name, tensor in average.items():
        torch.testing.assert_close(stored[name], tensor, atol=1e-3, rtol=1e-3)


def test_one_seed_gives_one_result_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first, again = pretrain(TINY, tmp_path, bf16=False), pretrain(TINY, tmp_path, bf16=False)
    other = pretrain(dataclasses.replace(TINY, seed=1), tmp_path, bf16=False)

    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_run_goes_on_from_an_artefact(tmp_path: Path) -> None:
    """With a rate of nothing the weights stay those of the artefact, which another seed made."""
    first = pretrain(TINY, tmp_path / "first", bf16=False)
    second = dataclasses.replace(TINY, seed=1, rate=0.0, start=tmp_path / "first")
    average = pretrain(second, tmp_path / "second", bf16=False)

    for name, tensor in first.items():
        torch.testing.assert_close(average[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_run_stopped_early_is_the_beginning_of_the_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(dataclasses.replace(TINY, until=1), tmp_path, every=1, bf16=False)
    stopped = capsys.readouterr().out.splitlines()
    pretrain(TINY, tmp_path, every=1, bf16=False)
    whole = capsys.readouterr().out.splitlines()
    losses = [lines[1].split("s: ")[1] for lines in (stopped, whole)]

    assert len(stopped) == 2
    assert len(whole) == 3
    assert losses[0] == losses[1]


def test_training_lowers_the_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(dataclasses.replace(TINY, phases=((16, 40),), rate=3e-3), tmp_path, every=1, bf16=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    category = [float(line.split("category ")[1].split(",")[0]) for line in lines]

    assert len(lines) == 40
    assert sum(category[-5:]) < 0.95 * sum(category[:5])


def test_the_rate_warms_up_and_then_falls_to_a_hundredth() -> None:
    recipe = Recipe(phases=((32, 60), (64, 40)), rate=1.0)
    rates = [recipe.rate_at(step) for step in range(recipe.steps)]

    assert rates.index(max(rates)) in (4, 5)
    assert max(rates) == pytest.approx(1.0)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.01)


def test_phases_follow_one_another() -> None:
    recipe = Recipe(phases=parse_phases("32:2,64:1"))

    assert [recipe.resolution(step) for step in range(recipe.steps)] == [32, 32, 64]


@pytest.mark.parametrize("text", ["", "32", "32:x", "30:10", "128:10", "32:0"])
def test_phases_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=text.split(":")[0] or "''"):
        parse_phases(text)


def test_the_command_trains(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    options = ["--categories", "2", "--renderings", "2", "--phases", "16:1", "--batch", "2"]
    result = CliRunner().invoke(app, ["--out", str(tmp_path), *options])

    assert result.exit_code == 0, result.output
    assert "step 1/1 at 16 px" in result.output
    assert (tmp_path / "model.safetensors").is_file()
