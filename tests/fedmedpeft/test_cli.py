from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fedmedpeft import __version__, cli
from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from simulations.superlink import LaunchError

_COMMANDS = (
    "run",
    "config",
    "methods",
    "estimate",
    "partition",
    "evaluate",
    "merge",
    "compare",
    "runs",
    "knowledge",
    "privacy",
    "audit",
)


def test_help_lists_every_command_without_loading_torch() -> None:
    script = (
        "import sys; from fedmedpeft.cli import app; app(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.rpartition("[")
    assert all(command in shown for command in _COMMANDS)
    for heavy in ("torch", "transformers", "flwr", "pydantic", "numpy"):
        assert f"'{heavy}'" not in modules


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    subcommands = {
        "partition": ("make", "show", "plot"),
        "runs": ("list", "show"),
        "knowledge": ("show", "coverage"),
        "privacy": ("show", "verify", "plan", "sites", "adopt", "reference", "distance"),
    }.get(command, ("",))
    for subcommand in subcommands:
        arguments = [command, *([subcommand] if subcommand else []), "--help"]
        result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})
        assert result.exit_code == 0
        assert f"fedmedpeft {command}" in result.stdout.partition("Options")[0].partition("Example")[2]


def test_version() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, __version__)


def test_an_unknown_command_is_met_with_a_suggestion() -> None:
    result = CliRunner().invoke(cli.app, ["estimat"])
    assert result.exit_code == 2
    assert "Did you mean 'estimate'?" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("rounds=0\n is too few"), 2, "Error: rounds=0 is too few\n"),
        (DataError("no images"), 2, "Error: no images\n"),
        (LaunchError("the run failed"), 1, "Error: the run failed\n"),
        (ZeroDivisionError("oops"), 1, "Error: ZeroDivisionError: oops (`fedmedpeft --debug ...` shows where)\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (BrokenPipeError(errno.EPIPE, "a reader that has seen enough"), 1, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("simulations.catalogue.settings", fail)
    result = CliRunner().invoke(cli.app, ["config"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, line, "")


def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConfigError("rounds=0")

    monkeypatch.setattr("simulations.catalogue.settings", fail)
    result = CliRunner().invoke(cli.app, ["--debug", "config"])
    assert isinstance(result.exception, ConfigError)
