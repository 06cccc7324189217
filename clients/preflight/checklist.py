"""All checks, the cheap ones first."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from clients.preflight.check import Check, Result
from clients.preflight.facts import Facts


def _in(module: str, function: str) -> Callable[[Facts], Result]:
    """``function`` of a module here, imported when it is called: the first lines must not wait for torch."""

    def look(facts: Facts) -> Result:
        result: Result = getattr(import_module(f"clients.preflight.{module}"), function)(facts)
        return result

    return look


def checklist() -> tuple[Check, ...]:
    """In the order of the report: settings and files, machine, network, run, data, model."""
    site = ("site-file",)
    return (
        Check("site-file", "reading site.yaml", _in("files", "check_site_file")),
        Check("state", "the state directory", _in("files", "check_state"), site),
        Check("socket", "the path of the worker's socket", _in("files", "check_socket"), site),
        Check("ca-certificate", "the authority's certificate", _in("credentials", "check_authority"), site),
        Check("key", "the site's key", _in("credentials", "check_key"), site),
        Check("versions", "versions", _in("machine", "check_versions")),
        Check("worker", "is a worker running?", _in("machine", "check_worker"), ("site-file", "socket")),
        Check("port", "the loopback port of Flower", _in("machine", "check_port"), site),
        Check("proxy", "proxies", _in("network", "check_proxy"), site),
        Check("server", "is the server reached?", _in("network", "check_reachable"), ("proxy",)),
        Check("tls", "is it the right server?", _in("network", "check_tls"), ("server", "ca-certificate")),
        Check("clock", "this clock and the server's", _in("login", "check_clock"), ("tls",)),
        Check("registered", "does the server know the key?", _in("login", "check_registered"), ("tls", "key")),
        Check("run-config", "the announced run", _in("announced_run", "check_announced"), site),
        Check("policy", "the policy and the announced run", _in("announced_run", "check_policy"), ("run-config",)),
        Check("settings", "this site and the run", _in("announced_run", "check_settings"), site),
        Check("data", "the data", _in("own_data", "check_data"), site),
        Check("labels", "the federation's labels", _in("own_data", "check_labels"), ("data",)),
        Check("patients", "patients in several splits", _in("own_data", "check_leakage"), ("data",)),
        Check("counts", "classes and splits", _in("own_data", "check_counts"), ("patients", "settings")),
        Check("privacy", "the privacy budget", _in("budget", "check_budget"), ("counts",)),
        Check("images", "decoding images", _in("images", "check_images"), ("counts",)),
        Check("device", "the device", _in("model", "check_device"), site),
        Check("backbone", "loading the backbone", _in("model", "check_backbone"), ("settings", "device")),
        Check("memory", "one batch forwards", _in("model", "check_memory"), ("backbone", "counts")),
        Check("disk", "room on the disk", _in("machine", "check_disk"), site),
    )
