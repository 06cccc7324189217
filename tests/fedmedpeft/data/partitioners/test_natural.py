from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partitioners import PARTITIONERS, Assignment

NATURAL = PARTITIONERS.build("natural")


def assign(source: Any, sites: int = 0) -> Assignment:
    return NATURAL.assign(source.table, sites, np.random.default_rng(0))


def test_sites_are_those_of_the_column_in_alphabetical_order(plain_source: Callable[..., Any]) -> None:
    source = plain_source(6, 2, sites=("rome", "bern", "rome", "oslo", "bern", "rome"))
    for sites in (0, 3):
        given = assign(source, sites)
        assert given.sites == ("bern", "oslo", "rome")
        assert given.site_of.tolist() == [2, 0, 2, 1, 0, 2]


def test_another_number_of_sites_is_an_error_with_their_names(plain_source: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"sites=3, but the data has 2: bern, rome\. Set sites=2 or 0"):
        assign(plain_source(6, 2, sites=("rome", "bern") * 3), 3)


def test_data_without_sites_is_an_error(plain_source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="no site column"):
        assign(plain_source(6, 2))


def test_patients_in_two_sites_are_counted(plain_source: Callable[..., Any]) -> None:
    source = plain_source(6, 2, sites=("rome", "bern") * 3, patients=("p", "p", "q", "r", "s", "t"))
    with pytest.raises(DataError, match="1 patients are in more than one site"):
        assign(source)


def test_an_image_of_two_sites_is_counted_too(plain_source: Callable[..., Any]) -> None:
    source = plain_source(6, 2, sites=("rome", "bern") * 3, images=("i", "i", "j", "k", "l", "m"))
    with pytest.raises(
        DataError, match="1 images are in more than one site. Correct the site or image column"
    ) as error:
        assign(source)
    assert error.value.public == "The data has images that are in more than one site."
