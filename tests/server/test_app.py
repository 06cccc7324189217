from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.app import app, main
from server.errors import FederationError
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


def context(config: RunConfig, **changes: object) -> Context:
    run_config = config.to_mapping() | changes
    return Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=run_config)  # type: ignore[arg-type]


def test_flower_calls_the_registered_function_which_prints_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = script.run_config(tmp_path)
    app(LocalGrid(script.federation_of(config)), context(config))
    printed = capsys.readouterr().out
    assert printed.startswith("Run directory: ")
    assert "before" in printed
    assert "Test balanced accuracy" in printed


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"rouns": 3}, ConfigError, "Error: Unknown configuration key 'rouns'. Did you mean 'rounds'?"),
        ({"rounds": "3"}, ConfigError, "Error: Configuration: rounds='3'"),
        ({"min-sites": 4}, FederationError, "Error: 3 of 4 sites connected"),
    ],
)
def test_an_error_is_one_line_and_fails_the_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    error: type[Exception],
    line: str,
) -> None:
    config = script.run_config(tmp_path)
    with pytest.raises(error):
        main(LocalGrid(script.federation_of(config)), context(config, **changes))
    errors = [text for text in capsys.readouterr().out.splitlines() if text.startswith("Error")]
    assert len(errors) == 1
    assert errors[0].startswith(line)
