"""Questions about images in a table of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedmedpeft.components import ConfigError
from fedmedpeft.data.source import SOURCES
from fedmedpeft.data.sources.questions import QuestionOptions, QuestionSource
from fedmedpeft.data.sources.table_file import read_table, refuse_empty, require

if TYPE_CHECKING:
    import pandas as pd

_KIND = "Question table"
_OPTIONAL = ("answer_type", "question_type", "split", "patient")
_SITE = "site"


class VqaOptions(QuestionOptions):
    """Options of ``vqa``."""

    path: str = Field(min_length=1, description="CSV, JSON or Parquet file with the columns file, question and answer")
    split: Literal["official", "shared", "image"] = Field(  # type: ignore[assignment]
        "official", description="official: the split column; shared: it may put one image in several; image: drawn anew"
    )
    root: str = Field("", description="folder that the file column starts from; empty: the table's own")
    sites: str = Field(_SITE, min_length=1, description="column that says which site an image is from")
    question: str = Field("", description="the question of every row, where there is no question column: a report's")


@SOURCES.register("vqa", VqaOptions)
class Vqa(QuestionSource):
    """Questions listed in a table: columns ``file``, ``question``, ``answer`` and optionally ``answer_type`` (closed or
    open), ``question_type``, ``split``, ``site``, ``patient``.

    Report generation is this with one question for all rows: ``question='What does the image show?'`` and the report as
    the answer. Without ``answer_type`` an answer yes or no is closed and any other open. Without ``question_type``
    partitioners skew the answer types. Other columns are ignored.

    Raises:
        DataError: the table cannot be read, lacks a column or has empty cells, or none of its files exists.
        ConfigError: a question given twice, by the option and by the column, or a skew over a missing column.

    Example: ``vqa(path=/data/questions.csv, skew=answer)``
    """

    def __init__(self, options: VqaOptions) -> None:
        path = Path(options.path).expanduser().absolute()
        root = Path(options.root).expanduser().absolute() if options.root else path.parent
        frame = _read(path, options)
        super().__init__("vqa", f"the table {path.name}", root, frame, options, shared=options.split == "shared")


def _read(path: Path, options: VqaOptions) -> pd.DataFrame:
    frame = read_table(path, _KIND)
    if options.question:
        if "question" in frame.columns:
            raise ConfigError("The question table has a column 'question', and question= is another. Leave one out.")
        frame = frame.assign(question=options.question)
    hint = " Or give one question for all rows: question='...'." if "question" not in frame.columns else ""
    require(frame, ("file", "question", "answer"), path, _KIND, hint)
    if options.sites != _SITE:
        require(frame, (options.sites,), path, _KIND)
    ours = {name: name for name in ("question", "answer", *_OPTIONAL) if name in frame.columns} | {"image": "file"}
    if options.sites in frame.columns:
        ours["site"] = options.sites
    refuse_empty(frame[list(dict.fromkeys(ours.values()))], path, _KIND)
    chosen = frame[list(ours.values())].set_axis(list(ours), axis="columns")
    # An image's first question is <file>#0, its second <file>#1, ...
    return chosen.assign(key=chosen["image"] + "#" + chosen.groupby("image").cumcount().astype(str))
