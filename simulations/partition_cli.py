"""``fedmedpeft partition``: who has which image, as a file that can be read, shared and used again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations import options

app = typer.Typer(no_args_is_help=True, help="Make, show and draw partitions of data over sites.")

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A partition file.")]


@app.command()
def make(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the partition (JSON).")],
    data: options.Data = None,
    partition: options.Partition = None,
    sites: options.Sites = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the partition.")] = None,
    assignments: options.Assignments = None,
    config: options.ConfigFile = None,
) -> None:
    """Divide a data source over sites, with the keys and defaults of a run.

    Example: fedmedpeft partition make skew.json --partition 'dirichlet(alpha=0.3)' --sites 4

    A run then takes it as --partition 'file(path=skew.json)'.
    """
    from simulations.preflight import plan_federation
    from simulations.settings import read_settings

    given = {"data": data, "partition": partition, "sites": sites, "partition-seed": seed}
    federation = plan_federation(read_settings(config, assignments or (), given))
    federation.partition.save(file)
    typer.echo(f"{federation.source.description}\nWritten: {file.absolute()}")
    _show(file)


@app.command()
def show(file: _File, as_json: options.AsJson = False) -> None:
    """Images per site, split and class.

    Example: fedmedpeft partition show skew.json
    """
    if as_json:
        import json

        from fedmedpeft.data import PartitionManifest
        from fedmedpeft.data.source import SPLITS

        manifest = PartitionManifest.load(file)
        counts = {
            site: {split: dict(zip(manifest.classes, rows[code], strict=True)) for code, split in enumerate(SPLITS)}
            for site, rows in zip(manifest.sites, manifest.counts().tolist(), strict=True)
        }
        typer.echo(json.dumps(counts, indent=2))
        return
    _show(file)


@app.command()
def plot(
    file: _File,
    picture: Annotated[Path, typer.Argument(metavar="PNG", help="Where to write the picture.")],
    split: Annotated[str | None, typer.Option(help="train, val or test; all without it.")] = None,
) -> None:
    """Draw samples per site, stacked by class.

    Example: fedmedpeft partition plot skew.json skew.png
    """
    from fedmedpeft.data import PartitionManifest
    from fedmedpeft.data.partition_plot import plot_partition

    plot_partition(PartitionManifest.load(file), picture, split)
    typer.echo(f"Written: {picture.absolute()}")


def _show(file: Path) -> None:
    from fedmedpeft.console_table import show_table
    from fedmedpeft.data import PartitionManifest
    from fedmedpeft.data.source import SPLITS

    manifest = PartitionManifest.load(file)
    rows = [
        (site if split == SPLITS[0] else "", split, *(str(count) for count in row), str(sum(row)))
        for site, splits in zip(manifest.sites, manifest.counts().tolist(), strict=True)
        for split, row in zip(SPLITS, splits, strict=True)
    ]
    title = f"{manifest.partitioner} of {manifest.source}, seed {manifest.seed}, hash {manifest.hash()[:12]}"
    show_table(title, ("site", "split", *manifest.classes, "all"), rows, numbers_from=2)
