"""Texts from a file: questions in JSON, a column of a table, or plain lines."""

from __future__ import annotations

import json
from pathlib import Path

from fedmedpeft.components import suggest
from fedmedpeft.knowledge.concept import refuse
from fedmedpeft.knowledge.tables import read_table, read_text


def read_texts(path: Path, column: str = "question") -> list[str]:
    """The texts of a file by its suffix: ``.json`` a list of objects and ``.csv``/``.tsv`` rows, both with ``column``;
    any other file has one text a line. Empty texts are left out.

    Raises:
        DataError: the file cannot be read, lacks the column, or has no text. No text is ever part of the message.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        texts = _from_json(path, column)
    elif suffix in (".csv", ".tsv"):
        texts = [row[column] for _, row in read_table(path, (column,))]
    else:
        texts = read_text(path).splitlines()
    kept = [text.strip() for text in texts if text.strip()]
    if not kept:
        raise refuse(f"'{path}' holds no text.")
    return kept


def _from_json(path: Path, column: str) -> list[str]:
    try:
        items = json.loads(read_text(path))
    except ValueError as error:
        raise refuse(f"'{path}' is not JSON ({error}).") from None
    if not isinstance(items, list):
        raise refuse(f"'{path}' must hold a list of objects with a field '{column}'.")
    texts = []
    for number, item in enumerate(items, start=1):
        fields = list(item) if isinstance(item, dict) else []
        if column not in fields or not isinstance(item[column], str):
            near, has = suggest(column, fields), ", ".join(fields) or "no fields"
            raise refuse(f"Item {number} of '{path}' has no text '{column}'.{near} It has: {has}.")
        texts.append(item[column])
    return texts
