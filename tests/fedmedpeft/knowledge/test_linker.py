from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge import Linker, build_linker

_WORDS = ["lung", "Lungs", "lung tumour", "CT", "(", ")", ",", ".", "-", "the", "rib", "é", "cold toe", "\n"]
_texts = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(_WORDS), max_size=15).map(" ".join))


@pytest.fixture(scope="module")
def linker(link: Callable[..., Linker]) -> Linker:
    return link("lung=an organ of the chest that takes up oxygen", "lung tumor=a growth", "rib=a bone", "cold toe|CT=x")


def test_one_sentence_per_concept_with_the_callers_separator(linker: Linker) -> None:
    text = "Is a rib near the lungs, or a second rib?"
    bone, organ = "rib is a bone", "lungs is an organ of the chest that takes up oxygen"
    assert linker.knowledge(text, "</s>") == f"{bone}</s> {organ}"
    assert linker.knowledge(text, "[SEP]") == f"{bone}[SEP] {organ}"


def test_nothing_found_is_an_empty_text(linker: Linker) -> None:
    assert linker.knowledge("What is this?", "</s>") == ""
    assert linker.knowledge("", "</s>") == ""


def test_a_separator_inside_a_sentence_is_taken_out(link: Callable[..., Linker]) -> None:
    assert link("rib=a bone</s>of the chest").knowledge("rib", "</s>") == "rib is a bone of the chest"


def test_of_too_many_concepts_the_longest_names_stay_in_the_order_of_the_text(link: Callable[..., Linker]) -> None:
    linker = link("toe=x", "cold nose=x", "long left ear=x", "elbow=x", concepts=3)
    found = [mention.text for mention in linker.link("elbow, toe, cold nose, long left ear")]
    assert found == ["elbow", "cold nose", "long left ear"]


def test_descriptions_are_cut(link: Callable[..., Linker]) -> None:
    linker = link("rib=a bone of the side of the chest", words=4)
    assert linker.knowledge("rib", "</s>") == "rib is a bone"


@given(_texts)
def test_any_text_can_be_linked_and_gives_the_same_again(linker: Linker, text: str) -> None:
    first = linker.knowledge(text, "</s>")
    assert linker.knowledge(text, "</s>") == first
    assert bool(first) == bool(linker.link(text))
    assert len(linker.link(text)) <= linker.options.concepts


@given(_texts)
def test_mentions_are_pieces_of_the_text_at_words_that_do_not_overlap(linker: Linker, text: str) -> None:
    end = 0
    for mention in linker.link(text):
        assert mention.start >= end
        assert mention.text == text[mention.start : mention.end] != ""
        assert not text[mention.start - 1 : mention.start].isalnum()
        assert not text[mention.end : mention.end + 1].isalnum()
        end = mention.end


@given(_texts, st.integers(3, 8))
def test_no_sentence_is_longer_than_allowed(link: Callable[..., Linker], text: str, words: int) -> None:
    linker = link("lung=one two three four five six seven eight nine ten", words=words)
    for sentence in filter(None, linker.knowledge(text, "</s>").split("</s> ")):
        assert len(sentence.partition(" is ")[2].split()) <= words


def test_the_hash_tells_vocabularies_and_options_apart(link: Callable[..., Linker]) -> None:
    same, again = link("rib=a bone"), link("rib=a bone")
    assert same.hash == again.hash
    others = [link("rib=bone"), link("rib|costa=a bone"), link("rib=a bone", words=9), link("rib=a bone", concepts=1)]
    assert len({same.hash, *(other.hash for other in others)}) == 5


def test_another_process_gives_the_same_hash_and_knowledge() -> None:
    script = (
        "from fedmedpeft.knowledge import build_linker; linker = build_linker('radiology');"
        "print(linker.hash, linker.knowledge('Ascites on CT near the liver?', '</s>'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert build_linker("radiology").hash in outputs.pop()


def test_a_source_is_read_once_per_process(vocabularies: Path) -> None:
    spec = f"open(path='{vocabularies}')"
    assert build_linker(spec) is build_linker(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("opn(path=x)", "Did you mean 'open'?"),
        ("open", "'path' is missing"),
        ("open(path=x, hpo=1)", "hpo=1"),
        ("open(path=x, conceps=2)", "Did you mean 'concepts'?"),
        ("radiology(concepts=0)", "concepts=0"),
        ("radiology(words=2)", "words=2"),
    ],
)
def test_a_wrong_option_is_named(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        build_linker(spec)


def test_an_error_keeps_paths_at_the_site(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        build_linker(f"open(path='{tmp_path / 'patients'}')")
    assert "patients" in str(caught.value)
    assert "patients" not in caught.value.public


def test_real_vocabularies_find_what_a_question_is_about(shared_data: Path) -> None:
    linker = build_linker(f"open(path='{shared_data / 'open_medical_kg'}')")
    assert linker.size > 15_000
    found = {m.text: m.concept.source for m in linker.link("Is pneumonia or a Pancoast tumour near the middle lobe?")}
    assert found["pneumonia"] == "Disease Ontology"
    words = linker.knowledge("Does the patient have tuberculosis?", "</s>").split()
    assert words[:3] == ["tuberculosis", "is", "a"]
    assert len(words) <= 24
