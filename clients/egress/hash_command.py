"""``fedmedpeft site hash``: the hash of a run's configuration, and what a site's policy says of that run."""

from __future__ import annotations

from pathlib import Path

import typer

from clients.egress.policy import Policy
from clients.egress.run_hash import read_run, run_hash
from clients.egress.working_hours import WorkingHours
from clients.site_file import SiteFile

_REFUSED = 1


def hash_command(path: Path, site: Path | None = None) -> None:
    """Print the hash alone on the first line and, with a ``site.yaml``, what its policy says.

    Args:
        path: a TOML file with the keys of ``fedmedpeft config``, or a run's directory.
        site: a ``site.yaml``.

    Raises:
        ConfigError: one of the files cannot be used.
        typer.Exit: with 1, where the policy refuses the run.
    """
    announced = read_run(path)
    digest = run_hash(announced)
    typer.echo(digest)
    if site is None:
        return
    file = SiteFile.load(site)
    findings = Policy(file.policy, file.backbones).findings(announced)
    for finding in findings:
        typer.echo(f"{file.site} refuses it: {finding}.")
    if findings:
        if digest not in file.policy.approved_runs:
            typer.echo(f"Once you have read it, approve of it with policy.approved-runs: [{digest}] in '{site}'.")
        raise typer.Exit(_REFUSED)
    typer.echo(f"{file.site} takes part: {WorkingHours.of(file.policy)}.")
