"""The run that the coordinator has announced, against what this site allows and has."""

from __future__ import annotations

from datetime import datetime

from clients.deployment.site_run import site_config
from clients.egress.policy import Policy
from clients.egress.run_hash import read_run, run_hash
from clients.preflight.check import Result, failed, passed, skipped, warned, without_paths
from clients.preflight.facts import Facts
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import SiteError


def check_announced(facts: Facts) -> Result:
    """Read the configuration that the coordinator sent, and tell its hash."""
    if facts.run_config is None:
        return skipped(
            "no run was announced (--run-config); the checks below assume the defaults.",
            "Ask the coordinator for the run's configuration, and check again with --run-config FILE.",
        )
    facts.announced = read_run(facts.run_config)
    return passed(f"hash {run_hash(facts.announced)}; the coordinator's `fedmedpeft site hash` must show the same.")


def check_policy(facts: Facts) -> Result:
    """What the policy would say to it, rule by rule, now."""
    assert facts.announced is not None
    policy = Policy(facts.site.policy, facts.site.backbones)
    findings = policy.findings(facts.announced)
    if findings:
        return failed(
            f"the policy refuses this run: {'; '.join(map(without_paths, findings))}.",
            "If you agree to it, change the rule in the section 'policy' of site.yaml; else tell the coordinator.",
        )
    if facts.site.policy.dry_run:
        return warned("the policy allows this run, but 'policy.dry-run' is on: nothing is sent.", "Set it to false.")
    try:
        policy.check_hours(datetime.now().astimezone())
    except SiteError as error:
        return warned(f"the policy allows this run, but now it waits: it {error.reason}.", "Nothing, if that is meant.")
    return passed("the policy allows this run.")


def check_settings(facts: Facts) -> Result:
    """Do the site's settings and the run's go together?"""
    announced = facts.announced
    if announced is None:
        announced = RunConfig.from_mapping({"backbone": next(iter(facts.site.backbones), "embedded")})
    try:
        facts.config = site_config(facts.site, announced)
    except SiteError as error:
        return failed(
            f"{without_paths(error.reason)}.",
            "Add it to site.yaml ('backbones', 'knowledge'), or tell the coordinator.",
        )
    return passed("site.yaml has what the run needs." if facts.run_config else "site.yaml has what a run needs.")
