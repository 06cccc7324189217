"""Commands around whole federations. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from simulations import catalogue_cli, compare_cli, evaluate_cli, merge_cli, options, partition_cli

app = typer.Typer(no_args_is_help=True)
app.command()(catalogue_cli.config)
app.command()(catalogue_cli.methods)
app.command()(evaluate_cli.evaluate)
app.command()(merge_cli.merge)
app.command()(compare_cli.compare)
app.add_typer(partition_cli.app, name="partition")

_RUN_EXAMPLES = """
Simulate a federation on this machine.

It is Flower's own simulation (flwr run), checked before it starts and cleaned up after it ends; exit code 0 means that
the run completed and left its results in the run directory.

Examples:

  fedmedpeft run

  fedmedpeft run --method layernorm --rounds 20 --seed 1

  fedmedpeft run --data 'medmnist(path=breastmnist.npz)' --partition 'dirichlet(alpha=0.3)' --sites 5

  fedmedpeft run --task vqa --data 'vqa-rad(path=vqa_rad)' --method sadapter --backbone 'meter(vision=vit, text=bert)'

  fedmedpeft run --privacy 'required(epsilon=8)' --set references=none

  fedmedpeft run --config runs/lora-phantoms-20260102-030405/config.toml --set local-steps=20
"""


@app.command(help=_RUN_EXAMPLES)
def run(
    method: options.Method = None,
    task: options.Task = None,
    data: options.Data = None,
    partition: options.Partition = None,
    backbone: options.Backbone = None,
    rounds: options.Rounds = None,
    mode: Annotated[str | None, typer.Option(help="federated, local-only or pooled.")] = None,
    privacy: Annotated[
        str | None,
        typer.Option(help="Differential privacy at the sites: off, 'required(epsilon=8)', 'auto(epsilon=8)'."),
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="fedavg, 'fedprox(mu=0.01)', median, ...")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random, except the partition.")] = None,
    sites: options.Sites = None,
    assignments: options.Assignments = None,
    file: options.ConfigFile = None,
    runs_dir: options.RunsDir = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run's directory.")] = None,
    cpus_per_site: Annotated[int, typer.Option(min=1, help="Cores for one site's training.")] = 1,
    gpus_per_site: Annotated[float, typer.Option(min=0.0, help="Share of a GPU for one site's training.")] = 0.0,
    online: Annotated[bool, typer.Option("--online", help="Let a backbone be fetched from the hub.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all of Flower's and Ray's log.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, then show command and environment only.")] = False,
) -> None:
    from simulations.run_command import run_command
    from simulations.settings import read_settings

    config = read_settings(
        file,
        assignments or (),
        {
            "method": method,
            "task": task,
            "data": data,
            "partition": partition,
            "backbone": backbone,
            "rounds": rounds,
            "mode": mode,
            "privacy": privacy,
            "strategy": strategy,
            "seed": seed,
            "sites": sites,
            "runs-dir": None if runs_dir is None else str(runs_dir),
            "run-name": name,
        },
    )
    run_command(config, cpus_per_site, gpus_per_site, online=online, verbose=verbose, dry_run=dry_run)


@app.command()
def estimate(
    method: options.Method = None,
    data: options.Data = None,
    partition: options.Partition = None,
    backbone: options.Backbone = None,
    rounds: options.Rounds = None,
    sites: options.Sites = None,
    assignments: options.Assignments = None,
    file: options.ConfigFile = None,
    online: Annotated[bool, typer.Option("--online", help="Let a backbone be fetched from the hub.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """What a run will move over the wire, before it runs: joining, every round, references, the last evaluation.

    Encoded as in the run itself, and compared with moving all parameters as often.

    Example: fedmedpeft estimate --method 'lora(rank=4)' --rounds 50 --sites 8 --partition iid
    """
    from simulations.estimate_command import estimate_command
    from simulations.settings import read_settings

    given = {
        "method": method,
        "data": data,
        "partition": partition,
        "backbone": backbone,
        "rounds": rounds,
        "sites": sites,
    }
    estimate_command(read_settings(file, assignments or (), given), online=online, as_json=as_json)
