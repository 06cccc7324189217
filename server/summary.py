"""The result of a run as plain values: what ``summary.json``, the final table and the model card all read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SHARED_IMAGES
from fedmedpeft.exchange import Scores
from fedmedpeft.methods import stays_at_sites
from fedmedpeft.tasks import Task
from server.client_privacy import ClientPrivacy
from server.courier import Traffic
from server.data_words import configured_or_own
from server.joining import Federation
from server.privacy_words import of_sites_sentences, privacy_sentences, site_privacy
from server.records import ReferenceRecord, SiteRecord, mean, mean_loss, score_of, union_metrics, worst


def summarise(
    config: RunConfig,
    federation: Federation,
    references: Sequence[ReferenceRecord],
    tests: Mapping[str, Mapping[str, Scores]],
    traffic: Mapping[str, Traffic],
    spent: Mapping[str, SiteRecord],
    private: ClientPrivacy | None = None,
    withheld: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Everything that is known at the end.

    Args:
        config: of the run.
        federation: who took part.
        references: as trained.
        tests: scores by model (``federated``, ``personalised``) and site; empty where nothing was federated.
        traffic: by phase.
        spent: the last answer of each site that trains with privacy.
        private: privacy of whole sites, where the run has it.
        withheld: by site, what its policy keeps back, of ``val``, ``test`` and ``loss``.
    """
    privacy, of_sites = site_privacy(spent), private.summary() if private else {}
    return {
        **_settings(config, federation),
        **_participants(federation),
        "remarks": [
            *_remarks(federation),
            *privacy_sentences(privacy, {site.name: site.private for site in federation.sites}),
            *of_sites_sentences(of_sites),
        ],
        "privacy": privacy,
        "client_privacy": of_sites,
        "withheld": {site: list(what) for site, what in sorted((withheld or {}).items()) if what},
        **_scored(federation.task, references, tests),
        "traffic": _traffic(traffic, federation, config),
    }


def _settings(config: RunConfig, federation: Federation) -> dict[str, Any]:
    """What was asked for; ``data`` and ``partition`` where sites did as they say."""
    return {
        "mode": config.mode,
        "method": config.method,
        "personal": list(stays_at_sites(config.method, config.personal_parts)),
        "task": config.task,
        "knowledge": config.knowledge,
        "data": configured_or_own(config.data, federation.partition_hash),
        "partition": configured_or_own(config.partition, federation.partition_hash),
        "strategy": config.strategy,
        "rounds": config.rounds,
        "local_steps": config.local_steps,
        "personalise_steps": config.personalise_steps,
    }


def _participants(federation: Federation) -> dict[str, Any]:
    """Who took part, with what, and what they exchanged."""
    manifest = federation.contract.manifest
    return {
        "backbone": federation.backbone.name,
        "synthetic": bool(federation.synthetic_sites),
        "synthetic_sites": list(federation.synthetic_sites),
        "classes": list(federation.classes),
        "sites": {site.name: dict(site.samples) for site in federation.sites},
        "skipped": {site.name: dict(site.skipped) for site in federation.sites if site.skipped},
        "left_out": {left.name: left.reason for left in federation.left_out},
        "exchanged_parameters": manifest.numel(),
        "exchanged_per_round": federation.rotation.largest_part(manifest).numel(),
    }


def _remarks(federation: Federation) -> list[str]:
    """What whoever reads a figure must know, as sentences."""
    remarks = [f"Backbone: {remark}." for remark in federation.backbone.remarks]
    return [*remarks, SHARED_IMAGES] if federation.shares_images else remarks


def local_only_tests(references: Sequence[ReferenceRecord]) -> dict[str, Scores]:
    """By site, its own model on its own test images."""
    return {r.site: r.scores["test"] for r in references if r.kind == "local-only" and "test" in r.scores}


def pooled_tests(references: Sequence[ReferenceRecord]) -> dict[str, Scores]:
    """By site, the pooled model on that site's test images."""
    pooled = next((r.scores for r in references if r.kind == "pooled"), {})
    return {key.removeprefix("test/"): scores for key, scores in pooled.items() if key.startswith("test/")}


def _scored(
    task: Task, references: Sequence[ReferenceRecord], tests: Mapping[str, Mapping[str, Scores]]
) -> dict[str, Any]:
    """What was measured: every model at every site, and what sites gain by taking part."""
    alone = local_only_tests(references)
    federated, personalised = tests.get("federated", {}), tests.get("personalised", {})
    models = {"local-only": alone, "federated": federated, "personalised": personalised}
    models["pooled"] = pooled_tests(references)
    own = [reference.scores for reference in references if reference.kind == "local-only"]
    elsewhere = [score_of(s["union"], task.primary) for s in own if "union" in s and not task.size_matters]
    return {
        "metric": task.primary,
        "secondary": list(task.secondary),
        "unit": task.unit,
        "results": {kind: _result(task, scores) for kind, scores in models.items() if scores},
        "gains": _gains(task, federated, alone),
        "personalised_gains": _gains(task, personalised, alone),
        "overall_gains": _overall_gains(task, federated, alone),
        "overall_personalised_gains": _overall_gains(task, personalised, alone),
        "local_only_elsewhere": mean(elsewhere) if elsewhere else None,
    }


def _result(task: Task, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """One model, or one per site, over all sites. ``union`` adds the sites' counts."""
    values = {site: score_of(score, task.primary) for site, score in scores.items()}
    worst_site, worst_value = worst(values)
    union = union_metrics(task, list(scores.values())) | {"loss": mean_loss(list(scores.values()))}
    return {
        "mean": mean(list(values.values())),
        "worst": worst_value,
        "worst_site": worst_site,
        "union": union.get(task.primary, math.nan),
        "union_metrics": union,
        "sites": {site: {"samples": s.samples, "loss": s.loss, **s.metrics} for site, s in scores.items()},
    }


def _gains(task: Task, together: Mapping[str, Scores], alone: Mapping[str, Scores]) -> dict[str, float]:
    """What each site gains (or, below 0, loses) by taking part."""
    both = [site for site in together if site in alone]
    return {site: score_of(together[site], task.primary) - score_of(alone[site], task.primary) for site in both}


def _overall_gains(task: Task, together: Mapping[str, Scores], alone: Mapping[str, Scores]) -> dict[str, float]:
    """Gains of mean, worst site and union, over the sites that have both: a site that is missing moves neither."""
    both = sorted(together.keys() & alone.keys())
    if not both:
        return {}
    joined, single = (_result(task, {site: scores[site] for site in both}) for scores in (together, alone))
    return {key: joined[key] - single[key] for key in ("mean", "worst", "union")}


def _traffic(traffic: Mapping[str, Traffic], federation: Federation, config: RunConfig) -> dict[str, Any]:
    down, up = sum(t.down for t in traffic.values()), sum(t.up for t in traffic.values())
    states = sum(t.states for t in traffic.values())
    full = states * federation.full_nbytes
    federated = config.mode == "federated"
    return {
        "down_bytes": down,
        "up_bytes": up,
        "phases": {phase: {"down_bytes": t.down, "up_bytes": t.up} for phase, t in traffic.items()},
        "states_exchanged": states,
        "full_fine_tuning_bytes": full if federated else None,
        "times_less": full / (down + up) if federated and down + up else None,
    }
