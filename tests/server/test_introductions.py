from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.proto.node_pb2 import NodeInfo

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.courier import Courier
from server.errors import FederationError
from server.introductions import Joined, join
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


def join_all(config: RunConfig, sites: dict[int, script.ScriptedSite]) -> Joined:
    return join(Courier(LocalGrid(sites), config.round_timeout, [].append), config, "run", sorted(sites))


def test_sites_that_agree_join_and_one_gives_the_state(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    joined = join_all(config, sites)
    federation = joined.federation
    assert [(site.node, site.name, site.samples["train"]) for site in federation.sites] == [
        (11, "site-0", 10),
        (12, "site-1", 20),
        (13, "site-2", 30),
    ]
    assert federation.classes == script.CLASSES
    assert federation.synthetic_sites == ("site-0", "site-1", "site-2")
    assert federation.fingerprint == script.FINGERPRINT
    assert federation.contract.manifest.hash == sites[11].initial.manifest.hash
    assert federation.full_nbytes == script.manifest_of(config.model_copy(update={"method": "full"})).nbytes
    assert joined.state is not None
    assert joined.state.hash() == sites[11].initial.hash()
    assert joined.answers[11].up > joined.answers[12].up  # only the first was asked for the state


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        (script.raising, "raised RuntimeError"),
        (script.refusing, "too few images"),
        (script.silent, "no answer"),
        (script.garbage, "no fields"),
        (script.changed(site="../../etc"), "its name is not"),
        (script.changed(site="site-0"), "the name 'site-0' is taken"),
        (script.changed(samples={"train": 0}), "no training data"),
    ],
)
def test_a_node_that_cannot_introduce_itself_is_left_out(tmp_path: Path, twist: script.Twist, reason: str) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[12].twists["join"] = twist
    federation = join_all(config, sites).federation
    assert [site.name for site in federation.sites] == ["site-0", "site-2"]
    assert [left.name for left in federation.left_out] == ["node 12"]
    assert reason in federation.left_out[0].reason


class _Registered(LocalGrid):
    """Whose nodes' keys were registered, as at a real server."""

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node, name=f"site-{node - 11}") for node in self.nodes]


def test_a_site_has_the_name_that_its_key_was_registered_for(tmp_path: Path) -> None:
    """Nobody can speak for another hospital; and one that does not speak is called by its name."""
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[12].twists["join"] = script.changed(site="site-9")
    sites[13].twists["join"] = script.refusing
    config = config.model_copy(update={"min_sites": 1})
    courier = Courier(_Registered(sites), config.round_timeout, [].append)
    federation = join(courier, config, "run", sorted(sites)).federation
    assert [site.name for site in federation.sites] == ["site-0"]
    assert {left.name: left.reason for left in federation.left_out}.keys() == {"site-1", "site-2"}
    assert "its key is registered for 'site-1'" in federation.left_out[0].reason


@pytest.mark.parametrize(
    "twist",
    [
        script.silent,
        script.changed(state=None),
        script.with_vectors(lambda part, vector: vector + 1),
        script.with_vectors(lambda part, vector: vector[:-1]),
    ],
)
def test_the_state_comes_from_the_next_site_where_the_first_fails(tmp_path: Path, twist: script.Twist) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[11].twists["join"] = twist
    state = join_all(config, sites).state
    assert state is not None
    assert state.hash() == sites[12].initial.hash()


def test_no_site_with_the_agreed_state_is_an_error(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    for site in sites.values():
        site.twists["join"] = script.changed(state=None)
    with pytest.raises(FederationError, match="No site could give the initial PEFT state"):
        join_all(config, sites)


def test_a_reference_run_fetches_no_state(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, mode="local-only")
    assert join_all(config, script.federation_of(config)).state is None


def test_a_site_cannot_add_its_own_splits(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[11].twists["join"] = script.changed(samples={"train": 5, "secret": 1})
    site = join_all(config, sites).federation.sites[0]
    assert site.samples == {"train": 5, "val": 0, "test": 0}


def test_a_site_with_reasons_of_its_own_is_left_out(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config)
    sites[11].twists["join"] = script.changed(skipped={"=HYPERLINK(1)": 2})
    joined = join_all(config, sites).federation
    assert 11 not in {site.node for site in joined.sites}
    assert [(left.node, "none of the known ones" in left.reason) for left in joined.left_out] == [(11, True)]


def test_nothing_to_exchange_is_a_configuration_error(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, mode="local-only", method="head", personal="head")
    with pytest.raises(ConfigError, match="leaves nothing to exchange"):
        join_all(config, script.federation_of(script.run_config(tmp_path)))
