"""``fedmedpeft config`` and ``fedmedpeft methods``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simulations import options

if TYPE_CHECKING:
    from simulations.catalogue import MethodCost


def config(as_json: options.AsJson = False) -> None:
    """Every configuration key with its type, default and meaning.

    Example: fedmedpeft config --json
    """
    from fedmedpeft.console_table import show_table
    from simulations import catalogue

    settings = catalogue.settings()
    if as_json:
        typer.echo(catalogue.as_json(settings))
        return
    rows = [(s.key, s.type, repr(s.default), s.meaning) for s in settings]
    show_table("Run configuration", ("key", "type", "default", "meaning"), rows, numbers_from=4)


def methods(
    name: Annotated[str | None, typer.Argument(help="One method or composition, with its options.")] = None,
    backbone: Annotated[
        str, typer.Option(help="vit-ti, vit-s, vit-b, vit-l, meter-b, or as in a run: embedded, a directory, ...")
    ] = "vit-b",
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the head.")] = 4,
    as_json: options.AsJson = False,
) -> None:
    """Every PEFT method: what it is, and what it exchanges per round and direction on a backbone.

    Method and head are counted apart, since the head is most of what a small method moves. With a method's name: its
    source and options too. --json has it all.

    Examples:

      fedmedpeft methods --backbone vit-l --classes 9

      fedmedpeft methods 'lora(rank=4)+vpt-deep'

      fedmedpeft methods peft:vera
    """
    from fedmedpeft.console_table import show_table
    from simulations import catalogue

    costs = catalogue.method_costs([name] if name else [], backbone, classes)
    if as_json:
        typer.echo(catalogue.as_json(costs))
        return
    of_peft = [cost for cost in costs if cost.name.startswith("peft:") and not name]
    groups = {"Methods": [cost for cost in costs if cost not in of_peft], "Methods of Hugging Face peft": of_peft}
    for title, group in groups.items():
        if group:
            rows = [_row(cost) for cost in group]
            show_table(f"{title} on {backbone}, {classes} classes", _COLUMNS, rows, numbers_from=5)
    typer.echo(_LEGEND)
    typer.echo("* bytes if encoded so (int8: with one scale for each tensor); this version sends float32.")
    for c in costs:
        if c.trained_parameters > c.method_parameters:
            trained = f"{c.trained_parameters:,}"
            typer.echo(f"{c.name}: parameters of one round; over a run up to {trained} take turns.")
    if name:
        typer.echo(f"Source: {costs[0].source}")
        _show_options(name)


def _show_options(composition: str) -> None:
    from fedmedpeft.components import parse_composition
    from fedmedpeft.console_table import show_table
    from simulations import catalogue

    for spec in parse_composition(composition):
        chosen = [(o.key, o.type, repr(o.default), o.meaning) for o in catalogue.method_options(spec.name)]
        show_table(f"Options of {spec.name}", ("option", "type", "default", "meaning"), chosen, numbers_from=4)


_COLUMNS = (
    "method", "what it is", "averaging", "DP", "merges",
    "parameters", "head", "bytes (fp32)", "fp16*", "int8*", "of full",
)  # fmt: skip
_LEGEND = (
    "averaging: the mean of several sites' states is that of their models (exact), or only near it, being that of "
    "factors (factors). DP: differential privacy can bound what one record does. merges: it folds into plain weights "
    "(fedmedpeft merge)."
)


def _row(cost: MethodCost) -> list[str]:
    words = [cost.averaging, *("yes" if trait else "no" for trait in (cost.dp_capable, cost.mergeable))]
    counts = (cost.method_parameters, cost.head_parameters, cost.bytes, cost.bytes_if_float16, cost.bytes_if_int8)
    numbers = [*(f"{count:,}" for count in counts), f"{100 * cost.share:.3g} %"]
    if cost.needs:
        numbers = [f"needs {cost.needs}", *[""] * (len(numbers) - 1)]
    return [cost.name, cost.summary, *words, *numbers]
