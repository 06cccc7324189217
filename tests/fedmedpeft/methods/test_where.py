"""The option ``where``: networks of a backbone that are frozen, trained, or have PEFT inside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import Backbone, skeleton
from fedmedpeft.components import ComponentSpec, parse_composition
from fedmedpeft.learner import UnsuitableBackbone, learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser
from tests.fedmedpeft.backbones.test_encoder_decoder import published

_PAGE = Path(__file__).parents[3] / "docs" / "methods-on-meter.md"
_STUDY = _PAGE.read_text(encoding="utf-8").partition("## The structure-level study")[2].partition("## ")[0]
_COMPOSITIONS = re.findall(r"^\|.*\| `(.*)` \|$", _STUDY, flags=re.MULTILINE)


@pytest.fixture
def backbone() -> Backbone:
    """MILE's, without weights."""
    return skeleton(published())


def _keys(backbone: Backbone, method: str | ComponentSpec) -> set[str]:
    built = METHODS.build(method)
    with backbone.within(built.options.parts or backbone.parts):
        return set(built.insert(backbone, Initialiser(0, torch.device("meta"))))


def test_the_page_has_the_study() -> None:
    assert len(_COMPOSITIONS) == 8


@pytest.mark.parametrize("composition", _COMPOSITIONS)
def test_each_method_acts_where_it_is_told(composition: str, backbone: Backbone) -> None:
    for spec in parse_composition(composition):
        keys = _keys(backbone, spec)
        assert {key.split(".")[0] for key in keys} == set(str(spec.options["where"]).split(","))


@pytest.mark.parametrize(
    ("method", "needs"),
    [
        ("kpl(where=vision)", "'cross'"),
        ("m3ad(where=vision)", "'cross'"),
        ("vpt-deep(where='text,decoder')", "'image tokens'"),
        ("position(where=text)", "'image tokens'"),
    ],
)
def test_what_is_not_in_the_named_networks_is_said_to_be_missing_there(method: str, needs: str) -> None:
    named = parse_composition(method)[0].options["where"]
    with pytest.raises(UnsuitableBackbone, match=f"acts on {needs}.* does not have in where='{named}'"):
        learner_skeleton(published(), method, (), "generation")


def test_the_networks_make_up_the_whole(backbone: Backbone) -> None:
    parts = [_keys(backbone, f"full(where={part})") for part in ("vision", "text", "decoder")]
    assert sum(map(len, parts)) == len(_keys(backbone, "full")) == len(set().union(*parts))
