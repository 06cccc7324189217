"""All that the server's side has after a run, to be searched for what should not be there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from simulations.poc.company import Operated


def found_in(words: Iterable[str], directory: Path, commands: Iterable[Operated]) -> list[str]:
    """``word: place`` wherever a word is in a file below ``directory`` (databases and archives are read as they are),
    or in what commands on that machine printed."""
    wanted = [word.encode() for word in words]
    texts = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    texts |= {f"said by '{command.who}'": "\n".join(command.lines).encode() for command in commands}
    assert len(texts) > len(list(commands)), f"'{directory}' is empty"
    return [f"{word.decode()}: {place}" for place, text in texts.items() for word in wanted if word in text]
