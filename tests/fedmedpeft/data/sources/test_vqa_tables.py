from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.source import Source, build_source

ROWS = {
    "file": ["a.png", "./a.png", "b.png"],
    "question": ["Is it?", "What?", "Is it?"],
    "answer": ["Yes.", "CT", "no"],
}
FULL = ROWS | {
    "answer_type": ["closed", "open", "CLOSED"],
    "question_type": ["x,y", "y", "x"],
    "split": ["train", "Training", "test"],
    "site": ["bern", "bern", "rome"],
    "patient": ["1", "1", "2"],
}


@pytest.fixture(autouse=True)
def images(write_image: Callable[..., Path]) -> None:
    write_image("a.png")
    write_image("b.png")


def vqa(tmp_path: Path, rows: dict[str, list[str]], options: str = "") -> Source:
    pd.DataFrame(rows).to_csv(tmp_path / "q.csv", index=False)
    return build_source(f"vqa(path='{tmp_path / 'q.csv'}'{options})")


def test_all_columns_are_read(tmp_path: Path) -> None:
    table = vqa(tmp_path, FULL | {"comment": ["", "", ""]}).table
    assert table.keys == ("a.png#0", "./a.png#0", "b.png#0")
    assert table.images == ("a.png", "a.png", "b.png")
    assert table.answers == ("yes", "ct", "no")
    assert table.answer_types == ("closed", "open", "closed")
    assert [table.classes[label] for label in table.labels] == ["x", "y", "x"]
    assert table.splits == ("train", "train", "test")
    assert table.sites == ("bern", "bern", "rome")
    assert table.patients == ("1", "1", "2")


def test_three_columns_are_enough(tmp_path: Path) -> None:
    table = vqa(tmp_path, ROWS).table
    assert table.answer_types == ("closed", "open", "closed")
    assert table.classes == ("closed", "open")
    assert (table.splits, table.sites, table.patients) == (None, None, None)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(FULL)
    if suffix == "json":
        frame.to_json(tmp_path / "q.json", orient="records")
    else:
        frame.to_parquet(tmp_path / "q.parquet")
    table = build_source(f"vqa(path='{tmp_path / f'q.{suffix}'}')").table
    assert table.content_hash() == vqa(tmp_path, FULL).table.content_hash()


def test_a_report_is_the_answer_to_one_question(tmp_path: Path) -> None:
    rows = {"file": ["a.png", "b.png"], "answer": ["No  Effusion.", "Heart large."]}
    table = vqa(tmp_path, rows, ", question='What does the image show?'").table
    assert table.texts == ("What does the image show?",) * 2
    assert table.answers == ("no effusion", "heart large")
    assert table.classes == ("open",)
    with pytest.raises(DataError, match=r"no column 'question'.* Or give one question for all rows"):
        vqa(tmp_path, rows)
    with pytest.raises(ConfigError, match="question= is another"):
        vqa(tmp_path, ROWS, ", question='Why?'")


def test_any_column_can_be_the_site(tmp_path: Path) -> None:
    rows = ROWS | {"scanner": ["m", "m", "n"]}
    assert vqa(tmp_path, rows, ", sites=scanner").table.sites == ("m", "m", "n")
    with pytest.raises(DataError, match="no column 'scaner'. Did you mean 'scanner'"):
        vqa(tmp_path, rows, ", sites=scaner")


def test_a_split_column_may_share_images_only_when_told(tmp_path: Path) -> None:
    rows = ROWS | {"split": ["train", "test", "train"]}

    def made(options: str) -> list[int]:
        source = vqa(tmp_path, rows, options)
        manifest = make_partition(
            source, "iid", sites=1, seed=0, val_fraction=0, test_fraction=0.4, min_train_per_site=0
        )
        return manifest.split_of.tolist()

    with pytest.raises(DataError, match=r"1 of 2 images are in more than one split.*drawn by image"):
        made("")
    assert made(", split=shared") == [0, 2, 0]
    assert len(set(made(", split=image")[:2])) == 1
    owners = rows | {"file": ["a.png", "b.png", "b.png"], "patient": ["1", "1", "1"]}
    assert vqa(tmp_path, owners, ", split=shared").table.splits_share_patients


def test_a_skew_needs_its_column_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a column question_type"):
        vqa(tmp_path, ROWS, ", skew=question-type")
    assert vqa(tmp_path, ROWS, ", skew=answer").table.classes == ("ct", "no", "yes")


def test_rare_answers_and_those_of_the_test_have_no_stratum_of_their_own(tmp_path: Path) -> None:
    common = [f"answer {index:02d}" for index in range(9)]
    answers = [*common, *common, "rare", *["tested"] * 9]
    rows = {
        "file": ["a.png"] * 28,
        "question": [f"q{i}" for i in range(28)],
        "answer": answers,
        "split": ["train"] * 19 + ["test"] * 9,
    }
    table = vqa(tmp_path, rows, ", skew=answer, split=shared").table
    assert table.classes == ("(other)", *common)
    assert np.bincount(table.labels).tolist() == [10, *[2] * 9]


def test_the_draw_of_a_template_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = {"file": ["a.png", "b.png"] * 10, "question": [f"What is {i}?" for i in range(20)], "answer": ["x"] * 20}
    backwards = {name: column[::-1] for name, column in rows.items()}
    forward, back = (vqa(tmp_path, r, ", templates=instruct").table.texts for r in (rows, backwards))
    assert forward is not None
    assert back is not None
    assert forward == back[::-1]
    assert len({text.replace(f"What is {i}?", "") for i, text in enumerate(forward)}) > 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"question": ["Is it?", "", "x"]}, "'question' .* empty in 1 of 3 rows, first in row 2"),
        ({"answer": ["", "", "x"]}, "'answer' .* empty in 2 of 3 rows"),
        ({"answer_type": ["yes/no", "open", "open"]}, "Answer type 'yes/no' of question 'a.png#0'"),
        ({"split": ["train", "tset", "test"]}, "Did you mean 'test'"),
        ({"file": ["x.png", "y.png", "z.png"]}, "None of the images"),
        ({"patient": ["1", "2", "3"]}, "is of two patients"),
    ],
)
def test_wrong_cells_are_named(tmp_path: Path, changes: dict[str, list[str]], named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        vqa(tmp_path, FULL | changes)
    assert "a.png" not in caught.value.public


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        vqa(tmp_path, {"file": [], "question": [], "answer": []})
