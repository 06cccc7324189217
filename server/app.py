"""The Flower ServerApp: reads the configuration and runs the federation. No data, no weights, no GPU."""

from __future__ import annotations

from functools import partial

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.errors import FederationError
from server.federation import run_federation

app = ServerApp()

# Flower streams standard output line by line; its logger would put a level before every row of a table.
_say = partial(print, flush=True)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run. An error is said in one line, and raised, so that Flower marks the run as failed."""
    try:
        run_federation(RunConfig.from_mapping(context.run_config), grid, _say)
    except (ConfigError, FederationError) as error:
        _say(f"Error: {error}")
        raise
