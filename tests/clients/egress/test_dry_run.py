"""A dry run leaves the bytes that would have been sent, and a page that a person can read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.egress.dry_run import write_dry_run
from clients.egress.withholding import Reply
from fedmedpeft.exchange import flower as wire
from tests.clients.egress.answers import CONTRACT, REPLIES, TRAINED, VISIT


@pytest.mark.parametrize("kind", REPLIES)
def test_the_bytes_are_those_that_would_have_left(tmp_path: Path, kind: str) -> None:
    reply: Reply = REPLIES[kind]
    content = wire.encode(reply)
    path = write_dry_run(tmp_path / "dry-run", kind, "run", 3, content, reply, CONTRACT)
    assert path.read_bytes() == wire.pack(content)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["bytes"] == path.stat().st_size
    assert (about["kind"], about["run"], about["round"]) == (kind, "run", 3)
    assert about["answer"]["site"] == "hospital-a"


def test_every_tensor_is_named(tmp_path: Path) -> None:
    path = write_dry_run(tmp_path, "visit", "run", 3, wire.encode(VISIT), VISIT, CONTRACT)
    state = json.loads(path.with_suffix(".json").read_text())["answer"]["state"]
    assert state["tensors"].keys() == TRAINED.tensors().keys()
    assert state["tensors"]["head.weight"]["shape"] == [2, 3]
    assert state["tensors"]["head.weight"]["norm"] == pytest.approx(np.linalg.norm(TRAINED.tensors()["head.weight"]))
    assert state["arrays"]["head"]["numbers"] == 6


def test_only_this_user_may_read_it_and_nothing_half_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "dry-run"
    for loss in (0.1, 0.2):
        reply = replace(VISIT, loss=loss)
        write_dry_run(folder, "visit", "run", 3, wire.encode(reply), reply)
    assert sorted(path.name for path in folder.iterdir()) == ["run--visit-0003.bin", "run--visit-0003.json"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert json.loads((folder / "run--visit-0003.json").read_text())["answer"]["loss"] == 0.2


def test_the_name_of_a_run_is_no_path(tmp_path: Path) -> None:
    path = write_dry_run(tmp_path / "a", "visit", "../../b\n" + "c" * 300, 3, wire.encode(VISIT), VISIT)
    assert path.parent == tmp_path / "a"
    assert len(path.name) < 120
    assert path.name.isprintable()


def test_no_run_writes_over_anothers(tmp_path: Path) -> None:
    runs = ["a b", "a_b", "a+b", "c" * 80, "c" * 81, "c" * 82]
    paths = {write_dry_run(tmp_path, "visit", run, 3, wire.encode(VISIT), VISIT) for run in runs}
    assert len(paths) == len(runs)
