from __future__ import annotations

from collections.abc import Callable

import pytest

from fedmedpeft.knowledge import Linker


def found(linker: Linker, text: str) -> list[tuple[str, str]]:
    return [(mention.text, mention.concept.name) for mention in linker.link(text)]


def test_names_begin_and_end_at_a_word(link: Callable[..., Linker]) -> None:
    linker = link("ill=x", "rib=y")
    assert found(linker, "a pill in the ribbon, tribal") == []
    assert found(linker, "ill-ribs") == [("ill", "ill"), ("ribs", "rib")]


def test_the_longest_name_stays_and_nothing_overlaps(link: Callable[..., Linker]) -> None:
    linker = link("lung=x", "lung tumor=y", "tumor marker test=z")
    assert found(linker, "lung tumour") == [("lung tumour", "lung tumor")]
    assert found(linker, "a lung tumor marker test") == [("lung", "lung"), ("tumor marker test", "tumor marker test")]


def test_a_name_does_not_run_over_the_end_of_a_sentence(link: Callable[..., Linker]) -> None:
    assert found(link("lung abscess=x"), "In the lung. Abscess seen") == []


def test_a_short_name_in_capitals_is_only_found_in_capitals(link: Callable[..., Linker]) -> None:
    linker = link("wide air sac|WAS|AIDS=x")
    assert found(linker, "there was a hearing aid") == []
    assert found(linker, "signs of WAS") == [("WAS", "wide air sac")]
    assert found(linker, "two WASs") == [("WASs", "wide air sac")]


def test_a_text_all_in_capitals_says_nothing_about_abbreviations(link: Callable[..., Linker]) -> None:
    linker = link("wide air sac|WAS=x", "lung=y")
    assert found(linker, "WHERE WAS THE LUNG") == [("LUNG", "lung")]
    assert found(linker, "WAS?") == [("WAS", "wide air sac")]


def test_an_abbreviation_means_what_the_text_says(link: Callable[..., Linker]) -> None:
    linker = link("cold toe=x", "chest tube|CT=y")
    assert found(linker, "CT in place") == [("CT", "chest tube")]
    assert found(linker, "the cold toe (CT), later CT again") == [("cold toe", "cold toe")]
    assert found(linker, "a crooked tail (CT)") == []  # explained, but nothing is known about it
    long = link("wide opening|COPAT=x")
    assert found(long, "copat") == [("copat", "wide opening")]
    assert found(long, "a crooked old paw after tea (COPAT), COPAT") == []


def test_what_radiology_means_goes_before_the_vocabulary(link: Callable[..., Linker]) -> None:
    linker = link("connective tissue|CT=x", "computed tomography=y", "chest radiograph=z")
    assert found(linker, "CT or CXR") == [("CT", "computed tomography"), ("CXR", "chest radiograph")]


def test_a_name_goes_before_a_synonym_and_the_first_before_the_second(link: Callable[..., Linker]) -> None:
    linker = link("one|shared=x", "shared=y", "alpha|twin=x", "gamma|twin=y")
    assert found(linker, "shared, twin") == [("shared", "shared"), ("twin", "alpha")]


@pytest.mark.parametrize("name", ["disease", "images", "of the", "x", "ab", "", "..."])
def test_names_that_help_nobody_are_never_found(name: str, link: Callable[..., Linker]) -> None:
    assert found(link(f"{name}=x"), f"{name} and the {name}") == []


def test_a_sequence_is_a_name_though_it_is_short(link: Callable[..., Linker]) -> None:
    assert found(link("t2=x"), "T2-weighted") == [("T2", "t2")]


def test_no_concepts_are_no_error(link: Callable[..., Linker]) -> None:
    assert found(link(), "a lung") == []
