"""VQA-RAD: clinicians' questions about radiology images.

Source: Lau et al., "A dataset of clinically generated visual questions and answers about radiology images", Scientific
Data 5:180251 (2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from fedmedpeft.data.source import SOURCES
from fedmedpeft.data.sources.published import image_folder, published_folder, read_columns, read_splits
from fedmedpeft.data.sources.questions import QuestionOptions, QuestionSource

if TYPE_CHECKING:
    import pandas as pd

_ONE_FILE = "VQA_RAD Dataset Public.json"
_FILES = {"train": ("train.json", "trainset.json"), "test": ("test.json", "testset.json")}
_IMAGES = ("images", "VQA_RAD Image Folder")
_COLUMNS = {
    "key": "qid",
    "image": "image_name",
    "question": "question",
    "answer": "answer",
    "answer_type": "answer_type",
    "question_type": "question_type",
    "site": "image_organ",
}
# Spelled so in four of the published questions.
_MISSPELT = {"ATRIB": "ATTRIB", "PRSE": "PRES"}


class VqaRadOptions(QuestionOptions):
    """Options of ``vqa-rad``."""

    sites: Literal["organ"] = Field("organ", description="what the natural sites are: head, chest and abdomen")


@SOURCES.register("vqa-rad", VqaRadOptions)
class VqaRad(QuestionSource):
    """VQA-RAD as published, beside its folder of images: ``train.json`` and ``test.json``, or ``trainset.json`` and
    ``testset.json``, or the first release's one file, where the kind of phrase marks the test questions.

    The published split is by question: nearly every test image is also in train, which description and notes say. Of
    several question types the first counts.

    Raises:
        DataError: a file is missing or not JSON, a field is missing or empty, or an id appears twice.

    Example: ``vqa-rad(path=/data/vqa_rad, skew=answer)``
    """

    def __init__(self, options: VqaRadOptions) -> None:
        folder = published_folder(options.path, "VQA-RAD")
        one = folder / _ONE_FILE
        frame = _read_one(one) if one.is_file() else read_splits(folder, _FILES, _COLUMNS)
        types = frame["question_type"].str.upper().str.split(",").str[0].str.strip()
        frame = frame.assign(question_type=types.replace(_MISSPELT))
        super().__init__("vqa-rad", "VQA-RAD", image_folder(folder, _IMAGES), frame, options, shared=True)


def _read_one(path: Path) -> pd.DataFrame:
    frame = read_columns(path, _COLUMNS | {"split": "phrase_type"})
    tests = frame["split"].str.lower().str.startswith("test")
    return frame.assign(split=tests.map({True: "test", False: "train"}))
