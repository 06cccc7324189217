"""Command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of `fedmedpeft config`; may be given many times."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file of keys, such as an earlier run's config.toml."),
]
Sites = Annotated[int | None, typer.Option("--sites", min=1, help="Number of sites; else as the data says, or 4.")]
Data = Annotated[str | None, typer.Option("--data", help="phantoms, medmnist(path=...), manifest(path=...), ...")]
Partition = Annotated[
    str | None, typer.Option("--partition", help="natural, iid, dirichlet(alpha=0.3), ..., file(path=...).")
]
Backbone = Annotated[str | None, typer.Option("--backbone", help="embedded, a directory, or a Hugging Face name.")]
Method = Annotated[str | None, typer.Option("--method", help="PEFT method: lora, 'lora(rank=4)+vpt-deep', ...")]
Task = Annotated[str | None, typer.Option("--task", help="classification, vqa, retrieval or generation.")]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Federated rounds.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
RunsDir = Annotated[Path | None, typer.Option("--runs-dir", metavar="DIR", help="Where runs are written; else runs.")]
