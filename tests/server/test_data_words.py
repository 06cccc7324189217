from __future__ import annotations

import pytest

from server.data_words import SYNTHETIC_WARNING, data_of_run, synthetic_sites, synthetic_warning


@pytest.mark.parametrize(
    ("federation", "words"),
    [({"partition-hash": "a1"}, "phantoms"), ({"partition-hash": ""}, "each site's own"), (None, "-")],
)
def test_data_of_a_run_by_what_its_sites_agreed_on(federation: dict[str, str] | None, words: str) -> None:
    assert data_of_run({"config": {"data": "phantoms"}, "federation": federation}) == words


def test_the_warning_counts_sites() -> None:
    assert synthetic_warning(["a", "b"], []) == ""
    assert synthetic_warning(["a", "b"], ["a", "b"]) == SYNTHETIC_WARNING
    assert synthetic_warning(["a", "b"], ["a"]).startswith("SYNTHETIC DATA at 1 of 2 sites (a): ")


def test_a_summary_of_before_names_no_sites() -> None:
    assert synthetic_sites({"sites": {"a": {}, "b": {}}, "synthetic": True}) == ["a", "b"]
    assert synthetic_sites({"sites": {"a": {}}, "synthetic": False}) == []
