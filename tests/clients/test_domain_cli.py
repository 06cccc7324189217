from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from clients.domain_cli import app
from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.domain import FeatureReference

_DATA = "phantoms(images=480, scanners=2, size=32)"


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def _reference(backbone: Path, directory: Path, *more: object) -> tuple[Path, str]:
    out = directory / "reference.json"
    return out, _run("reference", "--data", _DATA, "--backbone", backbone, "--out", out, *more)


def test_a_reference_of_one_site_and_the_distance_of_each(tiny_backbone: Path, tmp_path: Path) -> None:
    out, said = _reference(tiny_backbone, tmp_path, "--site", "scanner-00", "--name", "scanner zero")
    made = FeatureReference.load(out)
    assert made.source == "scanner zero"
    assert f"{made.samples} images of scanner zero, threshold {made.threshold:.3f}." in said
    found = json.loads(_run("distance", "--data", _DATA, "--backbone", tiny_backbone, "--reference", out, "--json"))
    own, other = found["sites"]["scanner-00"], found["sites"]["scanner-01"]
    assert found["threshold"] == made.threshold
    assert (own["images"], own["foreign"], own["distance"]) == (made.samples, False, 0.0)
    assert other["foreign"]
    assert other["distance"] > made.threshold
    table = _run("distance", "--data", _DATA, "--backbone", tiny_backbone, "--reference", out)
    assert [("off" in line, "on" in line.split()) for line in table.splitlines() if "scanner-0" in line] == [
        (True, False),
        (False, True),
    ]


def test_sites_that_are_not_within_what_they_made_together_are_named(tiny_backbone: Path, tmp_path: Path) -> None:
    _, said = _reference(tiny_backbone, tmp_path)
    assert "these are not within it themselves: scanner-00 (" in said
    _, said = _reference(tiny_backbone, tmp_path, "--threshold", 9)
    assert "not within" not in said
    assert FeatureReference.load(tmp_path / "reference.json").threshold == 9


def test_without_a_reference_privacy_would_be_on(tiny_backbone: Path) -> None:
    found = json.loads(_run("distance", "--data", _DATA, "--backbone", tiny_backbone, "--json"))
    assert found["threshold"] is None
    assert [site["foreign"] for site in found["sites"].values()] == [True, True]


def test_another_image_size_is_another_backbone(tiny_backbone: Path, tmp_path: Path) -> None:
    out, _ = _reference(tiny_backbone, tmp_path)
    with pytest.raises(ConfigError, match="Make one with this backbone, at this image size"):
        _run("distance", "--data", _DATA, "--backbone", tiny_backbone, "--reference", out, "--image-size", 64)


def test_a_site_that_is_not_there(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--site 'scaner-00': the data has no such site. Did you mean 'scanner-00'"):
        _reference(tiny_backbone, tmp_path, "--site", "scaner-00")
    assert not (tmp_path / "reference.json").exists()


def test_images_of_several_sites_are_of_different_people(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the data names no patients every image stands for itself, at whichever site it is."""
    given: list[torch.Tensor] = []

    def chance(features: torch.Tensor, groups: torch.Tensor, fingerprint: str) -> float:
        given.append(groups)
        return 0.5

    monkeypatch.setattr("fedmedpeft.privacy.domain_distance.chance_distance", chance)
    out, _ = _reference(tiny_backbone, tmp_path)
    assert given[0].unique().numel() == FeatureReference.load(out).samples
