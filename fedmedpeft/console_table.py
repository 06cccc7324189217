"""Results of commands as tables: as wide as the terminal, and never cut where the output goes to a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_WIDTH_OF_A_FILE = 240


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> None:
    """Print one table below its title; columns from ``numbers_from`` on are aligned to the right."""
    table = Table(header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index >= numbers_from else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    console.print(title, soft_wrap=True)
    console.print(table)
