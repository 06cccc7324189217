"""The kits, as a coordinator makes them, and each site.yaml, as the person at that site would edit it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import yaml

from clients.joining_request import make_join_request
from clients.site_file import SiteFile
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from server.processes.kit import ServerKit
from server.provisioning.federation_file import FederationFile
from server.provisioning.kits import SERVER, SITES, new_kits
from simulations.poc.plan import INTRUDER, RUN, Plan

_LOOPBACK = "127.0.0.1"
_LONGEST_SOCKET = 107
_POLICY = {"smallest-count": 0}
"""All test sets here are small; a hospital's own default keeps scores of fewer than ten samples."""


@dataclass(frozen=True)
class Stage:
    """What lies on the disk before anything starts.

    Attributes:
        server: its kit.
        sites: name -> site.yaml.
        intruder: site.yaml of one whose key nobody registered; None where nobody knocks.
        run: the run's configuration.
    """

    server: ServerKit
    sites: dict[str, Path]
    intruder: Path | None
    run: Path

    @property
    def run_directory(self) -> Path:
        return self.server.runs / RUN

    def site(self, name: str) -> SiteFile:
        return SiteFile.load(self.sites[name])


def set_up(plan: Plan, directory: Path) -> Stage:
    """Make all of it below ``directory``.

    Raises:
        ConfigError: it cannot be written, a site has a name that cannot be, or the path of a socket would be too long.
    """
    port, *ports = _free_ports(1 + len(plan.sites) + plan.events)
    federation = {
        "name": "poc",
        "server": {"address": f"{_LOOPBACK}:{port}", "port": port, "proxy": False},
        "sites": [{"name": name} for name in plan.sites],
    }
    file, kits = directory / "federation.yaml", directory / "kits"
    write_atomically(file, yaml.safe_dump(federation, sort_keys=False, allow_unicode=True))
    new_kits(FederationFile.load(file), directory, kits)
    sites = {name: kits / SITES / name / "site.yaml" for name in plan.sites}
    for (name, path), own in zip(sites.items(), ports, strict=False):
        _edit(path, {"data": _data(plan, name), "policy": _POLICY, "worker": _worker(own)})
    intruder = _uninvited(plan, directory / INTRUDER, sites[plan.sites[0]], ports[-1]) if plan.events else None
    for path in [*sites.values(), *([intruder] if intruder else [])]:
        _check_socket(SiteFile.load(path))
    run = directory / "run.toml"
    write_atomically(run, tomli_w.dumps(plan.config().to_mapping()))
    return Stage(ServerKit.open(kits / SERVER), sites, intruder, run)


def _uninvited(plan: Plan, directory: Path, of_another: Path, port: int) -> Path:
    """A site that knows the server's address and certificate, and made a key that the coordinator never saw."""
    make_join_request(INTRUDER, directory)
    path = directory / "site.yaml"
    write_atomically(path, of_another.read_text(encoding="utf-8"))
    server = {"ca-certificate": str(of_another.with_name("ca.crt")), "key": "site.key"}
    _edit(path, {"site": INTRUDER, "server": server, "worker": _worker(port)})
    return path


def _data(plan: Plan, site: str) -> dict[str, Any]:
    return {"source": plan.data, "rows-of": site, "classes": list(plan.classes)}


def _worker(port: int) -> dict[str, Any]:
    return {"runtime-port": port, "threads": 1}


def _edit(path: Path, values: Mapping[str, Any]) -> None:
    """Put ``values`` into a site file, section by section."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        content[key] = {**content[key], **value} if isinstance(value, Mapping) else value
    write_atomically(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True), mode=0o600)


def _check_socket(site: SiteFile) -> None:
    """Raises ConfigError."""
    length = len(os.fsencode(site.socket))
    if length > _LONGEST_SOCKET:
        raise ConfigError(
            f"'{site.socket}' has {length} bytes, and the path of a Unix socket can have {_LONGEST_SOCKET}. Name a "
            "shorter directory with --work."
        )


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses at this moment, all different."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((_LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
