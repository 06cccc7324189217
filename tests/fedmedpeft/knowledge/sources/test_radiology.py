from __future__ import annotations

from fedmedpeft.knowledge import KNOWLEDGE, build_linker
from fedmedpeft.knowledge.sources.radiology import glossary
from fedmedpeft.knowledge.tokens import key


def test_every_word_is_explained_in_one_short_sentence_and_once() -> None:
    names = [key(name) for concept in glossary() for name in (concept.name, *concept.synonyms)]
    twice = {name for name in names if names.count(name) > 1}
    assert {" ".join(name) for name in twice} <= set(_SPELLINGS)
    limit = KNOWLEDGE.build("radiology").options.words
    for concept in glossary():
        assert 1 < len(concept.description.split()) <= limit
        assert not concept.description.endswith(".")


# Two spellings of one name, for sources that are searched without the matcher's rules.
_SPELLINGS = ("hemorrhage", "hematoma", "edema", "gray matter")


def test_abbreviations_of_radiology_are_known() -> None:
    mentions = build_linker("radiology").link("CXR and MRI, then US")
    assert [m.concept.name for m in mentions] == ["chest x-ray", "magnetic resonance imaging", "ultrasound"]
