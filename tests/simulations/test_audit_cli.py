from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedpeft.cli import app
from simulations.audit import canary_findings, gradient_canaries
from simulations.audit.finding import Finding


def _audit(backbone: Path, out: Path, *more: str) -> object:
    fixed = ["--data", "phantoms(images=96, scanners=3, size=32)", "--backbone", str(backbone), "--method", "head"]
    small = ["--rounds", "2", "--set", "local-steps=4", "--set", "batch-size=8", "--out", str(out)]
    return CliRunner().invoke(app, ["audit", *fixed, *small, *more])


def test_it_writes_a_page(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_canaries.CANARIES, "quick", 100)
    chosen = ["--attack", "membership", "--attack", "canaries", "--epsilon", "2", "--site", "scanner-01"]
    result = _audit(tiny_backbone, tmp_path / "a", *chosen, "--shadows", "4")
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    assert f"Page: {tmp_path / 'a' / 'audit.html'}" in result.output.replace("\n", "")  # type: ignore[attr-defined]
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert found["audited"]["site"] == "scanner-01"
    assert [finding["title"].split(":")[0] for finding in found["findings"]] == [
        "Membership",
        "Canaries",
        "Noise and clipping, measured",
    ]


def test_a_broken_promise_is_an_exit_code(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Finding("Canaries", "BROKEN", (), (), broken=True)
    monkeypatch.setattr(canary_findings, "audit_canaries", lambda run: [broken])
    result = _audit(tiny_backbone, tmp_path, "--attack", "canaries")
    assert result.exit_code == 1  # type: ignore[attr-defined]
    assert (tmp_path / "audit.html").is_file()


def test_an_attack_asked_for_twice_is_made_once_and_the_place_is_tried_first(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(canary_findings, "audit_canaries", lambda run: made.append(run) or [])
    (tmp_path / "file").write_text("")
    refused = _audit(tiny_backbone, tmp_path / "file" / "page", "--attack", "canaries")
    assert (refused.exit_code, made) == (2, [])  # type: ignore[attr-defined]
    _audit(tiny_backbone, tmp_path / "a", "--attack", "canaries", "--attack", "canaries")
    assert len(made) == 1


def test_a_bad_site_is_one_line(tiny_backbone: Path, tmp_path: Path) -> None:
    result = _audit(tiny_backbone, tmp_path, "--site", "nowhere")
    assert result.exit_code == 2  # type: ignore[attr-defined]
    assert "--site 'nowhere': there is none." in result.output  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())
