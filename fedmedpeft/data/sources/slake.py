"""SLAKE: questions about radiology images in English and Chinese.

Source: Liu et al., "SLAKE: a semantically-labeled knowledge-enhanced dataset for medical visual question answering",
ISBI 2021.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmedpeft.components import suggest
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES
from fedmedpeft.data.sources.published import image_folder, published_folder, read_splits
from fedmedpeft.data.sources.questions import QuestionOptions, QuestionSource

_FILES = {"train": ("train.json",), "val": ("validate.json", "validation.json"), "test": ("test.json",)}
_COLUMNS = {
    "key": "qid",
    "image": "img_name",
    "question": "question",
    "answer": "answer",
    "answer_type": "answer_type",
    "question_type": "content_type",
    "language": "q_lang",
}


class SlakeOptions(QuestionOptions):
    """Options of ``slake``."""

    language: str = Field("en", min_length=1, description="of the questions kept: en or zh")
    sites: Literal["modality", "location"] = Field("modality", description="what the natural sites are")


@SOURCES.register("slake", SlakeOptions)
class Slake(QuestionSource):
    """SLAKE as published: ``train.json``, ``validate.json``, ``test.json`` and ``imgs/xmlab<n>/source.jpg``.

    Its splits are by image.

    Raises:
        DataError: a file is missing or not JSON, a field is missing or empty, an id appears twice, or no question is in
            the language.

    Example: ``slake(path=/data/slake, language=en, sites=location)``
    """

    def __init__(self, options: SlakeOptions) -> None:
        folder = published_folder(options.path, "SLAKE")
        frame = read_splits(folder, _FILES, _COLUMNS | {"site": options.sites})
        wanted = frame[frame["language"] == options.language].reset_index(drop=True)
        if wanted.empty:
            found = sorted(set(frame["language"]))
            near, known = suggest(options.language, found), ", ".join(found)
            raise DataError(f"'{folder}' has no questions in language '{options.language}'.{near} It has: {known}.")
        super().__init__("slake", f"SLAKE ({options.language})", image_folder(folder, ("imgs",)), wanted, options)
