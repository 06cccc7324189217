from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from fedmedpeft.components import ComponentSpec, ConfigError, Options, Registry, parse_composition, parse_spec


class _Options(Options):
    rank: int = Field(8, ge=1)
    path: str = ""


@pytest.fixture
def registry() -> Registry[Options]:
    registry: Registry[Options] = Registry("widget")
    registry.register("plain")(lambda options: options)
    registry.register("tuned", _Options)(lambda options: options)
    return registry


_values = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters='"', exclude_categories=["C"])),
)


@given(st.dictionaries(st.from_regex(r"[a-z]\w{0,8}", fullmatch=True, alphabet=st.characters(codec="ascii")), _values))
def test_what_is_written_is_read_back(options: dict[str, bool | int | float | str]) -> None:
    spec = ComponentSpec("name", options)
    assert parse_spec(str(spec)) == spec


def test_types_of_values() -> None:
    options = parse_spec("x(a=1, b=0.5, c=true, d=/a/b.csv, e='1', f=\"p,q(r)\")").options
    assert options == {"a": 1, "b": 0.5, "c": True, "d": "/a/b.csv", "e": "1", "f": "p,q(r)"}


@pytest.mark.parametrize("text", ["", "lora(", "lora(8)", "lora(rank=1, rank=2)", "1x", "a b", "lora(=3)"])
def test_malformed_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="component|option|twice|Option"):
        parse_spec(text)


def test_composition_is_sorted_and_free_of_doubles() -> None:
    assert parse_composition("vpt-deep(tokens=5) + lora") == parse_composition("lora+vpt-deep(tokens=5)")
    with pytest.raises(ConfigError, match="'lora' appears 2 times"):
        parse_composition("lora+lora(rank=4)")
    with pytest.raises(ConfigError):
        parse_composition(" ")


@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * 60_000 + "!",
        " " * 60_000 + "!",
        "a(" + " " * 60_000,
        "+".join(f"a{n:x}" for n in range(12_000)) + "+",
    ],
)
def test_a_long_text_takes_no_square_of_its_length(text: str) -> None:
    """A server writes these for a site to read."""
    began = time.process_time()
    with pytest.raises(ConfigError):
        parse_composition(text)
    assert time.process_time() - began < 1


def test_blanks_around_a_component_say_nothing() -> None:
    assert str(parse_spec("  lora \n ( rank = 8 )  ")) == "lora(rank=8)"
    assert str(parse_spec("lora ")) == "lora"


def test_a_plus_inside_quotes_is_not_a_composition() -> None:
    (spec,) = parse_composition("folder(path='/a+b')")
    assert spec.options == {"path": "/a+b"}


def test_unknown_names_and_options_are_suggested(registry: Registry[Options]) -> None:
    with pytest.raises(ConfigError, match="no widget 'tunde'. Did you mean 'tuned'"):
        registry.build("tunde")
    with pytest.raises(ConfigError, match="no option 'rnk'. Did you mean 'rank'"):
        registry.build("tuned(rnk=3)")


@pytest.mark.parametrize("text", ["tuned(rank=0)", "tuned(rank=a)", "tuned(rank=1.5)", "tuned(rank=true)"])
def test_wrong_values_name_option_and_value(registry: Registry[Options], text: str) -> None:
    with pytest.raises(ConfigError, match="rank="):
        registry.build(text)


def test_a_name_cannot_be_registered_twice(registry: Registry[Options]) -> None:
    with pytest.raises(RuntimeError, match="twice"):
        registry.register("plain")(lambda options: options)
