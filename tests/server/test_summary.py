from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from fedmedpeft.backbones import load_record
from fedmedpeft.config import RunConfig
from server.courier import Traffic
from server.joining import Federation, agree
from server.records import ReferenceRecord, SiteRecord
from server.summary import summarise
from tests.server.scripted_sites import federation_of, run_config, scores


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return run_config(tmp_path, references="all")


@pytest.fixture
def federation(config: RunConfig) -> Federation:
    replies = {node: site._join(send_state=False) for node, site in federation_of(config, 2).items()}
    return agree(replies, config, load_record(config.backbone), [])


REFERENCES = [
    ReferenceRecord("local-only", "site-0", "trained", {"test": scores(6, 4), "union": scores(5, 5)}),
    ReferenceRecord("local-only", "site-1", "trained", {"test": scores(9, 1), "union": scores(7, 3)}),
    ReferenceRecord("pooled", "site-0", "trained", {"test/site-0": scores(10, 0), "test/site-1": scores(8, 2)}),
]
FEDERATED = {"site-0": scores(8, 2), "site-1": scores(7, 3)}
TESTS = {"federated": FEDERATED, "personalised": {"site-0": scores(9, 1), "site-1": scores(10, 0)}}


def test_results_of_each_model_at_each_site(config: RunConfig, federation: Federation) -> None:
    summary = summarise(config, federation, REFERENCES, TESTS, {}, {})
    results = summary["results"]
    assert list(results) == ["local-only", "federated", "personalised", "pooled"]
    assert results["local-only"]["mean"] == pytest.approx(0.75)
    assert (results["federated"]["worst_site"], results["federated"]["worst"]) == ("site-1", 0.7)
    assert results["pooled"]["union"] == pytest.approx(0.9)
    assert results["pooled"]["sites"]["site-1"]["balanced_accuracy"] == 0.8
    assert summary["gains"] == {"site-0": pytest.approx(0.2), "site-1": pytest.approx(-0.2)}
    assert summary["personalised_gains"] == {"site-0": pytest.approx(0.3), "site-1": pytest.approx(0.1)}
    assert summary["local_only_elsewhere"] == pytest.approx(0.6)


def test_where_more_samples_are_harder_a_model_is_not_scored_on_all_of_them(
    config: RunConfig, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(federation.task), "size_matters", True)
    assert summarise(config, federation, REFERENCES, TESTS, {}, {})["local_only_elsewhere"] is None


def test_privacy_of_each_site(config: RunConfig, federation: Federation) -> None:
    spent = {"site-1": SiteRecord(3, "site-1", "evaluated", private="image", epsilon=7.5, delta=1e-3)}
    joined = [replace(site, private="image" if site.name == "site-1" else "") for site in federation.sites]
    summary = summarise(config, replace(federation, sites=tuple(joined)), [], TESTS, {}, spent)
    assert summary["privacy"] == {"site-1": {"unit": "image", "epsilon": 7.5, "delta": 1e-3}}
    assert any("site-1: epsilon 7.5 per image at delta 0.001" in remark for remark in summary["remarks"])
    assert "Without differential privacy, so that their updates are not private: site-0." in summary["remarks"]
    assert not summarise(config, federation, [], TESTS, {}, {})["privacy"]


def test_an_epsilon_that_a_site_keeps_to_itself(config: RunConfig, federation: Federation) -> None:
    spent = {name: SiteRecord(3, name, "evaluated", private="patient") for name in ("site-0", "site-1")}
    federation = replace(federation, sites=tuple(replace(site, private="patient") for site in federation.sites))
    remarks = summarise(config, federation, [], TESTS, {}, spent)["remarks"]
    assert sum("per patient, with an epsilon that the site keeps to itself" in remark for remark in remarks) == 2
    assert not any("Without differential" in remark for remark in remarks)


def test_a_private_site_that_was_never_heard_is_not_called_public(config: RunConfig, federation: Federation) -> None:
    federation = replace(federation, sites=tuple(replace(site, private="patient") for site in federation.sites))
    spent = {"site-0": SiteRecord(3, "site-0", "evaluated", private="patient", epsilon=2.0, delta=1e-4)}
    remarks = summarise(config, federation, [], TESTS, {}, spent)["remarks"]
    assert "Differential privacy at site-1: it gave no answer that counts, and no epsilon." in remarks
    assert not any("Without differential" in remark for remark in remarks)


def test_the_data_is_each_site_s_own_unless_it_was_divided(config: RunConfig, federation: Federation) -> None:
    own = summarise(config, federation, [], TESTS, {}, {})
    assert (own["data"], own["partition"]) == ("each site's own", "each site's own")
    divided = summarise(config, replace(federation, partition_hash="a1"), [], TESTS, {}, {})
    assert (divided["data"], divided["partition"]) == (config.data, config.partition)


def test_which_sites_have_generated_images(config: RunConfig, federation: Federation) -> None:
    real, generated = replace(federation.sites[0], synthetic=False), federation.sites[1]
    summary = summarise(config, replace(federation, sites=(real, generated)), [], TESTS, {}, {})
    assert (summary["synthetic"], summary["synthetic_sites"]) == (True, ["site-1"])
    summary = summarise(config, replace(federation, sites=(real,)), [], TESTS, {}, {})
    assert (summary["synthetic"], summary["synthetic_sites"]) == (False, [])


def test_bytes_against_full_fine_tuning(config: RunConfig, federation: Federation) -> None:
    traffic = {"join": Traffic(10, 90, 1), "rounds": Traffic(400, 500, 9)}
    figures = summarise(config, federation, [], TESTS, traffic, {})["traffic"]
    assert (figures["down_bytes"], figures["up_bytes"], figures["states_exchanged"]) == (410, 590, 10)
    assert figures["full_fine_tuning_bytes"] == 10 * federation.full_nbytes
    assert figures["times_less"] == pytest.approx(10 * federation.full_nbytes / 1000)
    assert figures["phases"]["join"] == {"down_bytes": 10, "up_bytes": 90}


def test_figures_are_of_the_sites_that_tell(config: RunConfig, federation: Federation) -> None:
    withheld = {"site-0": ("val", "test"), "site-1": ()}
    summary = summarise(config, federation, [], {"federated": {"site-1": scores(7, 3)}}, {}, {}, withheld=withheld)
    assert summary["withheld"] == {"site-0": ["val", "test"]}
    assert summary["results"]["federated"]["mean"] == pytest.approx(0.7)
    assert summary["results"]["federated"]["worst_site"] == "site-1"
    assert summarise(config, federation, [], TESTS, {}, {})["withheld"] == {}


def test_what_is_missing_is_left_out(config: RunConfig, federation: Federation) -> None:
    summary = summarise(config, federation, REFERENCES[:1], {"federated": {"site-1": scores(7, 3)}}, {}, {})
    assert list(summary["results"]) == ["local-only", "federated"]
    assert summary["gains"] == {}
    alone = summarise(config.model_copy(update={"mode": "pooled"}), federation, [], {}, {"join": Traffic(1, 1, 0)}, {})
    assert alone["results"] == {}
    assert alone["traffic"]["times_less"] is None
    assert alone["local_only_elsewhere"] is None


def test_empty_test_splits_give_nan_rather_than_an_error(config: RunConfig, federation: Federation) -> None:
    result = summarise(config, federation, [], {"federated": {"site-0": scores(0, 0)}}, {}, {})["results"]["federated"]
    assert math.isnan(result["union"])


def test_overall_gains_compare_the_same_sites(config: RunConfig, federation: Federation) -> None:
    """A site that misses the last visit must not make the others look better than they were."""
    federated = {"site-1": scores(7, 3)}
    summary = summarise(config, federation, REFERENCES, {"federated": federated}, {}, {})
    assert summary["gains"] == {"site-1": pytest.approx(-0.2)}
    assert summary["overall_gains"] == {key: pytest.approx(-0.2) for key in ("mean", "worst", "union")}
    assert summary["overall_personalised_gains"] == {}
