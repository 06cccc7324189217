"""``fedmedpeft merge``: a saved adapter folded into its backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations import options


def merge(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_ADAPTER", help="A run's directory, or its adapter/.")],
    out: Annotated[Path, typer.Option(help="Directory to make; nothing is overwritten.")],
    backbone: options.Backbone = None,
) -> None:
    """Fold a saved adapter into its backbone: a plain Hugging Face checkpoint that computes the same logits.

    It needs neither this project nor peft. Parts that stayed at the sites are not in it. The method must allow it
    (column `merges` of `fedmedpeft methods`).

    Example: fedmedpeft merge runs/lora-phantoms-20260102-030405 --out merged
    """
    from fedmedpeft.adapter_file import read_adapter
    from fedmedpeft.merging import save_merged
    from fedmedpeft.portable import load_learner
    from simulations.saved_run import SavedRun

    adapter = SavedRun.find(path).adapter
    saved = read_adapter(adapter).config
    learner = load_learner(adapter, backbone, device="cpu")
    source = f"run {saved.run}, method `{saved.method}`" if saved.run else f"method `{saved.method}`"
    if saved.personal:
        source += f" (without {', '.join(saved.personal)}, which stayed at the sites and is as before training)"
    mark = save_merged(learner, saved.method, out.absolute(), source=source, synthetic=saved.synthetic)
    typer.echo(f"Merged into {out.absolute()}")
    typer.echo(f"Backbone fingerprint {mark}: another one than before, so adapters of the one do not fit the other.")
    if saved.personal:
        typer.echo(f"Stayed at the sites, and is not in it: {', '.join(saved.personal)}.")
