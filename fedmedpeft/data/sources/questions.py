"""What the sources of questions about images share: their options, and how columns become a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from pydantic import Field

from fedmedpeft.components import ConfigError, Options, suggest
from fedmedpeft.data.answers import guess_answer_type, normalise_answer
from fedmedpeft.data.decode import MISSING, open_image
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ANSWER_TYPES, ImageTable, canonical_split, describe, index_labels
from fedmedpeft.data.sources.table_file import one_spelling
from fedmedpeft.data.templates import instruct

if TYPE_CHECKING:
    import pandas as pd

OTHER_ANSWERS = "(other)"
_STRATA = 10
TWICE = "A question id appears more than once."
BAD_ANSWER = "An answer or its type cannot be used."


class QuestionOptions(Options):
    """Options that every source of questions has."""

    path: str = Field(min_length=1, description="the folder with its question files and images")
    split: Literal["official", "image"] = Field(
        "official", description="official: as published; image: drawn anew, no image in two splits"
    )
    skew: Literal["question-type", "answer", "answer-type"] = Field(
        "question-type", description="what partitioners such as dirichlet skew between sites"
    )
    templates: Literal["", "instruct"] = Field("", description="instruct: questions in the format of instructions")
    seed: int = Field(0, ge=0, description="of the templates drawn")


class QuestionSource:
    """Questions about images below one folder.

    Args:
        name: what it is, without paths. origin: the same for people.
        root: the folder that the image column starts from.
        frame: text columns ``key``, ``image``, ``question``, ``answer`` and optionally ``answer_type``,
            ``question_type``, ``split``, ``site``, ``patient``; no cell is empty.
        shared: the splits are a published set's own and may put one image in several.

    Raises:
        DataError: a key appears twice, an answer or answer type cannot be used, or no image file exists.
        ConfigError: a skew over a column that is not there.
    """

    synthetic = False

    def __init__(
        self, name: str, origin: str, root: Path, frame: pd.DataFrame, options: QuestionOptions, *, shared: bool = False
    ) -> None:
        self.name, self.root = name, root
        self.table = question_table(frame, options, shared=shared)
        self._images = tuple(frame["image"])
        if not any((root / image).is_file() for image in dict.fromkeys(self._images)):
            raise DataError(
                f"None of the images that the questions are about exists below '{root}' (the first is "
                f"'{self._images[0]}'). Check where the image folder lies.",
                public=MISSING,
            )
        self.description = _describe(self.table, origin, options)

    def image(self, row: int) -> Image.Image:
        return open_image(self.root / self._images[row])


def question_table(frame: pd.DataFrame, options: QuestionOptions, *, shared: bool) -> ImageTable:
    """The table of ``frame`` (see :class:`QuestionSource`), normalised and with its strata as labels."""
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    keys = columns["key"]
    if len(set(keys)) != len(keys):
        twice, times = Counter(keys).most_common(1)[0]
        raise DataError(f"Question '{twice}' appears {times} times. Give every question its own id.", public=TWICE)
    answers = [_answer(key, answer) for key, answer in zip(keys, columns["answer"], strict=True)]
    if "answer_type" in columns:
        types = [_answer_type(key, name) for key, name in zip(keys, columns["answer_type"], strict=True)]
    else:
        types = [guess_answer_type(answer) for answer in answers]
    splits = None
    if options.split != "image" and "split" in columns:
        splits = tuple(canonical_split(name) for name in columns["split"])
    questions, images = columns["question"], [one_spelling(name) for name in columns["image"]]
    if options.templates:
        drawn = zip(questions, types, images, strict=True)
        questions = [instruct(text, kind, image=image, seed=options.seed) for text, kind, image in drawn]
    labels, classes = index_labels(_strata(columns.get("question_type"), answers, types, splits, options))
    return ImageTable(
        keys=tuple(keys),
        labels=labels,
        classes=classes,
        splits=splits,
        sites=tuple(columns["site"]) if "site" in columns else None,
        patients=tuple(columns["patient"]) if "patient" in columns else None,
        texts=tuple(questions),
        answers=tuple(answers),
        answer_types=tuple(types),
        images=tuple(images),
        splits_share_patients=shared and splits is not None and _shares(splits, columns.get("patient", images)),
    )


def _answer(key: str, answer: str) -> str:
    normal = normalise_answer(answer)
    if not normal:
        raise DataError(f"Nothing is left of the answer '{answer}' of question '{key}'. Correct it.", public=BAD_ANSWER)
    return normal


def _answer_type(key: str, name: str) -> str:
    if name.lower() not in ANSWER_TYPES:
        near, known = suggest(name.lower(), ANSWER_TYPES), " or ".join(ANSWER_TYPES)
        raise DataError(f"Answer type '{name}' of question '{key}' is not {known}.{near}", public=BAD_ANSWER)
    return name.lower()


def _strata(
    question_types: Sequence[str] | None,
    answers: Sequence[str],
    types: Sequence[str],
    splits: Sequence[str] | None,
    options: QuestionOptions,
) -> Sequence[str]:
    """What partitioners skew, for every row."""
    if options.skew == "answer":
        # As many as a plot has clear colours; rare answers, which may be free text, get into no file that others see.
        seen = (answer for row, answer in enumerate(answers) if splits is None or splits[row] != "test")
        common = sorted(Counter(seen).items(), key=lambda found: (-found[1], found[0]))[: _STRATA - 1]
        kept = {answer for answer, _ in common}
        return [answer if answer in kept else OTHER_ANSWERS for answer in answers]
    if options.skew == "question-type" and question_types is not None:
        return [name.split(",")[0].strip() or name for name in question_types]
    if options.skew == "question-type" and "skew" in options.model_fields_set:
        raise ConfigError("skew=question-type needs a column question_type. Add one, or use skew=answer.")
    return types


def _shares(splits: Sequence[str], owners: Sequence[str]) -> bool:
    """Whether some patient (or image) is in more than one split."""
    return len(set(zip(splits, owners, strict=True))) > len(set(owners))


def _describe(table: ImageTable, origin: str, options: QuestionOptions) -> str:
    notes = []
    if table.splits_share_patients:
        notes.append("test images are also in train")
    if options.templates:
        notes.append("questions as instructions, which tell closed from open")
    return describe(table, origin) + (f" ({'; '.join(notes)})" if notes else "")
