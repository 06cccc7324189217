from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.backbones import load_record
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinReply
from server.errors import FederationError
from server.joining import agree
from tests.server import scripted_sites as script


def replies(config: RunConfig, count: int) -> dict[int, JoinReply]:
    sites = script.federation_of(config, count)
    return {node: site._join(send_state=False) for node, site in sites.items()}


def agreed(config: RunConfig, changes: dict[int, dict[str, Any]], count: int = 3) -> Any:
    """Names of who takes part, and reasons of who does not, after changing the introductions of some nodes."""
    known = replies(config, count)
    known = {node: replace(reply, **changes.get(node, {})) for node, reply in known.items()}
    federation = agree(known, config, load_record(config.backbone), [])
    return [site.name for site in federation.sites], {left.name: left.reason for left in federation.left_out}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": "cat\ndog"}, "another list of classes"),
        ({"manifest_hash": "0" * 64}, "manifest"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"state_hash": "0" * 64}, "initial PEFT state"),
    ],
)
def test_a_site_that_differs_is_left_out(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    names, left_out = agreed(script.run_config(tmp_path), {12: change})
    assert names == ["site-0", "site-2"]
    assert reason in left_out["site-1"]


@pytest.mark.parametrize("key", ["classes", "fingerprint", "state_hash"])
def test_a_tie_is_an_error_that_names_both_sides(tmp_path: Path, key: str) -> None:
    with pytest.raises(FederationError, match=r"no majority: site-0, site-1 and site-2, site-3"):
        agreed(script.run_config(tmp_path), {13: {key: "a\nb"}, 14: {key: "a\nb"}}, count=4)


def test_the_configured_fingerprint_beats_the_majority(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, backbone_fingerprint="e" * 64, min_sites=1)
    names, left_out = agreed(config, {12: {"fingerprint": "e" * 64}})
    assert names == ["site-1"]
    assert set(left_out) == {"site-0", "site-2"}


def test_too_few_left_says_why(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, min_sites=3)
    with pytest.raises(FederationError, match=r"2 sites can take part, 3 are needed\. Left out: site-1: .*manifest"):
        agreed(config, {12: {"manifest_hash": "0" * 64}})


@pytest.mark.parametrize(("hashes", "agreed_on"), [(("p", "p", "q"), "p"), (("p", "p", ""), ""), (("", "", ""), "")])
def test_a_federation_has_one_partition_or_each_site_its_own_data(
    tmp_path: Path, hashes: tuple[str, ...], agreed_on: str
) -> None:
    config = script.run_config(tmp_path)
    known = zip(replies(config, 3).items(), hashes, strict=True)
    changed = {node: replace(reply, partition_hash=hash_, synthetic=hash_ == "q") for (node, reply), hash_ in known}
    federation = agree(changed, config, load_record(config.backbone), [])
    assert federation.partition_hash == agreed_on
    assert federation.synthetic_sites == tuple(f"site-{i}" for i, hash_ in enumerate(hashes) if hash_ == "q")


@pytest.mark.parametrize("classes", ["a\n", "a\na", "a\nb\x07"])
def test_classes_must_be_names(tmp_path: Path, classes: str) -> None:
    with pytest.raises(FederationError, match="empty, a repeated or an unprintable"):
        agreed(script.run_config(tmp_path), {node: {"classes": classes} for node in (11, 12, 13)})
