"""``fedmedpeft knowledge``: what a knowledge source says about a text, and how much of a data set it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulations import options

# The root of the command finds `knowledge` in this module, so there is a level around it.
app = typer.Typer()
_knowledge = typer.Typer(no_args_is_help=True, help="Link texts to medical vocabularies.")
app.add_typer(_knowledge, name="knowledge")


@app.callback()
def _level() -> None:
    """Only there so that `knowledge` stays a command of its own."""


_Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="radiology, 'open(path=...)', 'umls(path=...)', 'obo(path=...)'.")
]


@_knowledge.command()
def show(
    source: _Source,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A question or caption.")],
    separator: Annotated[str, typer.Option(help="Goes between sentences, as the tokenizer's token.")] = "</s>",
    as_json: options.AsJson = False,
) -> None:
    """The knowledge of one text, and which concept each mention is.

    Example: fedmedpeft knowledge show radiology 'Is there a pneumothorax on the CXR?'
    """
    from fedmedpeft.console_table import show_table
    from fedmedpeft.knowledge import build_linker

    linker = build_linker(source)
    mentions, knowledge = linker.link(text), linker.knowledge(text, separator)
    if as_json:
        import json
        from dataclasses import asdict

        found = {"knowledge": knowledge, "hash": linker.hash, "mentions": [asdict(mention) for mention in mentions]}
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(knowledge or "No concept found.")
    if mentions:
        rows = [(m.text, m.concept.name, m.concept.id, m.concept.source) for m in mentions]
        show_table(f"licence: {linker.source.licence}", ("mention", "concept", "id", "from"), rows, numbers_from=4)


@_knowledge.command()
def coverage(
    source: _Source,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".json, .csv, .tsv, or one text a line.")],
    column: Annotated[str, typer.Option(help="Field or column of the texts.")] = "question",
    most: Annotated[int, typer.Option(min=1, help="How many concepts and words are listed.")] = 20,
    as_json: options.AsJson = False,
) -> None:
    """How many texts have a concept, which concepts are found most, and which words are in none.

    Example: fedmedpeft knowledge coverage 'open(path=vocabularies, hpo=true)' train.json test.json

    Words of the texts are shown here, on this machine; nothing is written or sent.
    """
    from fedmedpeft.console_table import show_table
    from fedmedpeft.knowledge import build_linker
    from fedmedpeft.knowledge.coverage import measure_coverage
    from fedmedpeft.knowledge.text_file import read_texts

    linker = build_linker(source)
    measured = measure_coverage(linker, [text for file in files for text in read_texts(file, column)], most)
    if as_json:
        import json
        from dataclasses import asdict

        shares = {"share": measured.share, "per_text": measured.per_text, "hash": linker.hash}
        typer.echo(json.dumps(asdict(measured) | shares, indent=2))
        return
    typer.echo(
        f"{linker.size:,} concepts. Of {measured.texts:,} texts {measured.linked:,} ({measured.share:.1%}) have one; "
        f"{measured.per_text:.2f} concepts a text. Hash {linker.hash[:12]}, licence: {linker.source.licence}."
    )
    for title, counts in (("Found most", measured.concepts), ("Words in no concept", measured.unmatched)):
        show_table(
            title, ("what", "texts" if counts is measured.concepts else "times"), [(w, str(n)) for w, n in counts]
        )
