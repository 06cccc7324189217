from __future__ import annotations

import json
import math
import re
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from simulations.audit.finding import Figure, Finding
from simulations.audit.report import cell, make_place, write_report
from tests.simulations.audit.runs import audit_run

PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"
FOUND = Finding(
    "Reconstruction <script>alert(1)</script>",
    "A sentence & more.",
    ("attack", "score"),
    (("one", 0.123456), ("none", math.nan), ("all", math.inf), ("many", 12345)),
    (Figure("a patient?", PNG),),
    ("a note",),
)


class _Links(HTMLParser):
    """What a browser would fetch, and the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


@pytest.fixture
def written(tiny_backbone: Path, tmp_path: Path) -> Path:
    run = replace(audit_run(tiny_backbone, budget=8.0), synthetic=False, notes=("of the run",))
    return write_report(run, [FOUND], tmp_path / "out")


def test_it_opens_without_a_network(written: Path) -> None:
    text = written.read_text()
    page = _Links()
    page.feed(text)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "http" not in re.sub(r"data:[^\"]+", "", text).replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_nothing_in_it_is_taken_for_markup(written: Path) -> None:
    text = written.read_text()
    assert "<script>" not in text
    assert "Reconstruction &lt;script&gt;" in text
    assert "A sentence &amp; more." in text


def test_it_says_that_it_is_patient_data(written: Path) -> None:
    assert 'class="warning">This page may show patients' in written.read_text()
    assert 'class="synthetic">' not in written.read_text()


def test_synthetic_images_are_said_to_be(tiny_backbone: Path, tmp_path: Path) -> None:
    text = write_report(audit_run(tiny_backbone), [], tmp_path).read_text()
    assert 'class="synthetic">The images are synthetic' in text
    assert 'class="warning">' not in text


def test_for_its_owner_alone(written: Path) -> None:
    for name in ("audit.html", "audit.json"):
        assert stat.S_IMODE((written.parent / name).stat().st_mode) == 0o600


def test_numbers_without_pictures(written: Path) -> None:
    text = (written.parent / "audit.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    (finding,) = found["findings"]
    assert finding["rows"] == [["one", 0.123456], ["none", None], ["all", "inf"], ["many", 12345]]
    assert "figures" not in finding
    assert found["audited"]["with privacy"].startswith("epsilon 7.99 per record")
    assert found["config"]["method"] == "head"
    assert found["notes"] == ["of the run"]


def test_a_place_that_cannot_be_written_is_known_before_the_attacks(tmp_path: Path) -> None:
    assert make_place(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out '.*file.page' cannot be written"):
        make_place(tmp_path / "file" / "page")


def test_a_broken_promise_is_red(tiny_backbone: Path, tmp_path: Path) -> None:
    text = write_report(audit_run(tiny_backbone), [replace(FOUND, broken=True)], tmp_path).read_text()
    assert '<p class="broken">A sentence' in text


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (-math.inf, "-∞"), (2000.4, "2,000"), (7, "7"), ("7.000", "7.000")]
)
def test_cells(value: str | float, shown: str) -> None:
    assert cell(value) == shown
