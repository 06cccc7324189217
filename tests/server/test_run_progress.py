from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fedmedpeft.backbones import load_record
from fedmedpeft.components import ConfigError
from server.client_privacy import PrivateRound
from server.courier import Traffic
from server.introductions import join
from server.joining import LeftOut, Site
from server.progress import Agreement, Progress
from server.records import ReferenceRecord, RoundRecord, SiteRecord
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

AGREEMENT = Agreement(
    sites=(Site(2**63 + 1, "a", {"train": 3, "val": 0, "test": 1}, {"too small": 2}, True, "image", "f0"),),
    left_out=(LeftOut(7, "node 7", "no answer"),),
    classes=("benign", "ä\u2028"),
    fingerprint="f",
    manifest_hash="m",
    state_hash="s",
    partition_hash="p",
    shares_images=False,
)
SITE = SiteRecord(3, "a", "accepted", 3, 10, 0.1 + 0.2, {"val": script.scores(3, 1)}, 1, 2, 0.3, ("x",), "image", 2.5)
PROGRESS = Progress(
    agreement=AGREEMENT,
    rounds=[{"round": 0, "outcome": "joined", "clip": "", "val_loss": 1e-310}],
    sites=[{"site": "a", "epsilon": None, "seconds": 0.1 + 0.7}],
    pending=RoundRecord(
        3, 2, 1, "aggregated", 5, 6, 0.1, {}, ("x", "y"), PrivateRound(3, ("a", "b"), 0.1, math.inf, 1 / 3), ("b",)
    ),
    aggregated=2,
    spent={"a": SITE},
    withheld={"a": ("val", "loss")},
    references=[ReferenceRecord("pooled", "a", "trained", {"union": script.scores(2, 2)}, 0.1)],
    traffic={"join": Traffic(1, 2, 3)},
    distribution={"versions": {"blocks.0": 2}, "known": {"a": {}}},
    visits={"notices": {"b": "late"}, "answered": {"a": {"hash": [1, "sent"]}}},
    private=None,
)


def test_everything_comes_back_through_json_as_it_was() -> None:
    assert Progress.of_plain(json.loads(json.dumps(PROGRESS.plain()))) == PROGRESS


def test_what_is_not_a_number_comes_back_too() -> None:
    plain = json.loads(json.dumps(PROGRESS.plain()))
    plain["rounds"][0]["val_loss"] = plain["spent"]["a"]["loss"] = math.nan
    again = Progress.of_plain(json.loads(json.dumps(plain)))
    assert math.isnan(again.rounds[0]["val_loss"])
    assert math.isnan(again.spent["a"].loss)


def test_what_another_version_wrote_is_named() -> None:
    plain = PROGRESS.plain()
    del plain["references"]
    with pytest.raises(ConfigError, match="written by another version of this program .*references"):
        Progress.of_plain(plain)


def test_a_federation_is_made_again_of_what_it_agreed_on(tmp_path: Path) -> None:
    from server.courier import Courier

    config = script.run_config(tmp_path, method="sba", resume="run")
    grid = LocalGrid(script.federation_of(config))
    federation = join(Courier(grid, 1.0, [].append), config, "run", list(grid.get_node_ids())).federation
    backbone = load_record(config.backbone, image_size=config.image_size)
    again = Agreement.of(federation).federation(config, backbone)
    assert vars(again) | {"task": ""} == vars(federation) | {"task": ""}
    assert (again.task.spec, again.task.classes) == (federation.task.spec, federation.task.classes)
    other = Agreement(**{**vars(Agreement.of(federation)), "manifest_hash": "0" * 64})
    with pytest.raises(ConfigError, match="exchanges other tensors"):
        other.federation(config, backbone)
