from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Context, Message

from fedmedpeft.components import ConfigError
from server.errors import FederationError
from server.nodes import wait_for_nodes
from simulations.local_grid import LocalGrid
from tests.server.scripted_sites import run_config


def nobody(message: Message, context: Context) -> None:
    return None


class GrowingGrid(LocalGrid):
    """Every look finds one node more, up to all of them."""

    looks = 0

    def get_node_ids(self) -> Iterable[int]:
        self.looks += 1
        return list(self.nodes)[: self.looks]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.nodes._PAUSE", 0.001)
    monkeypatch.setattr("server.nodes._SETTLED", 0.02)


def grid(kind: type[LocalGrid], count: int, *, simulated: bool = False) -> LocalGrid:
    return kind(dict.fromkeys(range(1, count + 1), nobody), simulated=simulated)


def test_waits_for_all_configured_sites_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    nodes = wait_for_nodes(grid(GrowingGrid, 3), run_config(tmp_path, sites=3), said.append)
    assert nodes == [1, 2, 3]
    assert said == ["Waiting for sites: 1 of 3 connected.", "Waiting for sites: 2 of 3 connected."]


def test_says_that_it_waits_where_nobody_is_there(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(FederationError, match="0 of 2 sites"):
        wait_for_nodes(grid(LocalGrid, 0), run_config(tmp_path, round_timeout=0.05), said.append)
    assert said == ["Waiting for sites: 0 of 2 connected."]


def test_in_simulation_all_nodes_take_part(tmp_path: Path) -> None:
    nodes = wait_for_nodes(grid(GrowingGrid, 5, simulated=True), run_config(tmp_path), [].append)
    assert nodes == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("sites", "nodes"), [(4, 2), (2, 3)])
def test_another_number_of_simulated_nodes_names_the_fix(tmp_path: Path, sites: int, nodes: int) -> None:
    config = run_config(tmp_path, sites=sites, round_timeout=60.0)
    with pytest.raises(ConfigError, match=f"sites={sites} but the federation has {nodes} nodes") as caught:
        wait_for_nodes(grid(LocalGrid, nodes, simulated=True), config, [].append)
    assert f'--federation-config "num-supernodes={sites}"' in str(caught.value)


def test_too_few_simulated_nodes_for_min_sites(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="min-sites=3 but the federation has 1 node:"):
        wait_for_nodes(grid(LocalGrid, 1, simulated=True), run_config(tmp_path, min_sites=3), [].append)


def test_too_many_deployed_nodes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set sites=3"):
        wait_for_nodes(grid(LocalGrid, 3), run_config(tmp_path, sites=2), [].append)


def test_gives_up_after_the_timeout(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match=r"1 of 2 sites connected within round-timeout=0\.05 s"):
        wait_for_nodes(grid(LocalGrid, 1), run_config(tmp_path, round_timeout=0.05), [].append)


def test_one_site_is_enough_for_a_reference(tmp_path: Path) -> None:
    assert wait_for_nodes(grid(LocalGrid, 1), run_config(tmp_path, mode="local-only"), [].append) == [1]
