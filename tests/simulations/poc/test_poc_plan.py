from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fedmedpeft.components import ConfigError, parse_spec
from simulations.poc.plan import Plan

_PHANTOMS = "phantoms(scanners=4, images=80, size=32)"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three laboratories with 3, 2 and 4 images."""
    lines = ["file,label,site"]
    for site, images in (("Ulm", 3), ("Bern", 2), ("Graz", 4)):
        for number in range(images):
            Image.new("RGB", (8, 8)).save(tmp_path / f"{site}-{number}.png")
            lines.append(f"{site}-{number}.png,{'ab'[number % 2]},{site}")
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines))
    return path


def test_the_largest_sites_of_the_data_take_part(manifest: Path) -> None:
    plan = Plan.make(f"manifest(path={manifest})", 2, 1, events=False)
    assert plan.images == {"Graz": 4, "Ulm": 3}
    assert (plan.victim, plan.classes, plan.synthetic) == ("Graz", ("a", "b"), False)


def test_paths_are_whole_as_sites_start_elsewhere(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(manifest.parent)
    plan = Plan.make("manifest(path=labels.csv, classes='a,b')", 3, 1, events=False)
    assert parse_spec(plan.data).options == {"path": str(manifest), "classes": "a,b"}


def test_the_run_waits_for_all_and_goes_on_without_one() -> None:
    plan = Plan.make(_PHANTOMS, 4, 3, events=True)
    config = plan.config()
    assert (config.sites, config.min_sites, config.rounds, config.references) == (4, 2, 3, "none")
    assert config.round_timeout <= 120, "a killed site costs two minutes at most"
    assert plan.synthetic


@pytest.mark.parametrize(
    ("data", "sites", "rounds", "events", "words"),
    [
        (_PHANTOMS, 2, 3, True, "--sites 2 is too few.*--quick"),
        (_PHANTOMS, 1, 1, False, "--sites 1 is too few"),
        (_PHANTOMS, 4, 2, True, "--rounds 2 is too few.*--quick"),
        (_PHANTOMS, 5, 3, True, r"is of 4 sites, and 5 were asked for.*scanners=5, images=800"),
    ],
)
def test_too_few_of_something_is_refused(data: str, sites: int, rounds: int, events: bool, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Plan.make(data, sites, rounds, events=events)


def test_a_site_called_like_the_stranger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file,label,site\na.png,a,intruder\nb.png,b,Ulm\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="intruder"):
        Plan.make(f"manifest(path={path})", 2, 1, events=False)
