"""``fedmedpeft config`` and ``fedmedpeft methods``."""

from __future__ import annotations

from typing import Annotated

import typer

from simulations import options


def config(as_json: options.AsJson = False) -> None:
    """Every configuration key with its type, default and meaning.

    Example: fedmedpeft config --json
    """
    from simulations import catalogue
    from simulations.tables import show_table

    settings = catalogue.settings()
    if as_json:
        typer.echo(catalogue.as_json(settings))
        return
    rows = [(s.key, s.type, repr(s.default), s.meaning) for s in settings]
    show_table("Run configuration", ("key", "type", "default", "meaning"), rows, numbers_from=4)


def methods(
    name: Annotated[str | None, typer.Argument(help="One method or composition, with its options.")] = None,
    backbone: Annotated[
        str, typer.Option(help="vit-ti, vit-s, vit-b, vit-l, embedded, a directory or a Hugging Face name.")
    ] = "vit-b",
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the head.")] = 4,
    as_json: options.AsJson = False,
) -> None:
    """Every PEFT method: what it is, and what it exchanges per round and direction on a backbone.

    Method and head are counted apart, since the head is most of what a small method moves.

    Examples:

      fedmedpeft methods --backbone vit-l --classes 9

      fedmedpeft methods 'lora(rank=4)+vpt-deep'
    """
    from fedmedpeft.components import parse_composition
    from simulations import catalogue
    from simulations.tables import show_table

    costs = catalogue.method_costs([name] if name else [], backbone, classes)
    if as_json:
        typer.echo(catalogue.as_json(costs))
        return
    rows = []
    for c in costs:
        numbers = [f"{count:,}" for count in (c.method_parameters, c.head_parameters, c.bytes)]
        rows.append([c.name, c.summary, c.source, *numbers, f"{100 * c.share:.3g} %"])
    columns = ("method", "what it is", "source", "parameters", "head", "bytes (fp32)", "of full")
    show_table(f"Methods on {backbone}, {classes} classes", columns, rows, numbers_from=3)
    for spec in parse_composition(name) if name else ():
        chosen = [(o.key, o.type, repr(o.default), o.meaning) for o in catalogue.method_options(spec.name)]
        if chosen:
            show_table(f"Options of {spec.name}", ("option", "type", "default", "meaning"), chosen, numbers_from=4)
        else:
            typer.echo(f"{spec.name} has no options.")
