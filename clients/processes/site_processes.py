"""The three processes of a site, as commands: the worker, Flower's SuperNode, and Flower's SuperExec.

The SuperExec starts a ClientApp process for each message. It could be a child of the SuperNode, but then any user of
this machine could take a message from the SuperNode; started apart, the two share a secret.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from clients.deployment.longest_request import OVERDUE
from clients.processes.flower_account import secret_file
from clients.processes.supernode_log import explain, once_each
from clients.processes.worker_door import supernode_is_up, worker_is_up
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.flower_environment import flower_environment
from fedmedpeft.supervision import Account, Child, Ending
from fedmedpeft.supervision.child import SECRET, plain_ending

MARKER = "FEDMEDPEFT_SITE_STATE"
"""In the environment of all processes of a site: its state directory."""
WORKER, SUPERNODE, SUPEREXEC = "worker", "supernode", "superexec"
_WORKER_HUNG, _SUPERNODE_HUNG = 120.0, 60.0
"""Seconds without an answer. A worker answers while it trains, if late where the machine is busy."""
_LOOPBACK = "127.0.0.1"
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def site_processes(
    site: SiteFile, file: Path, environ: Mapping[str, str], account: Account | None, grace: float
) -> list[Child]:
    """In the order of their start.

    Args:
        file: the ``site.yaml`` itself, for the worker.
        environ: of this process.
        account: whom Flower's two run as; None: the same user as the worker.
        grace: seconds that the worker has to finish what it is at when it is asked to end.
    """
    home, logs = site.folder("flower"), site.folder("logs")
    marker = {MARKER: str(site.state_directory)}
    environment = flower_processes_environment(site, environ) | marker
    node, executor = flower_commands(site, SECRET if account else str(site.path(site.server.key)))
    return [
        Child(
            name=WORKER,
            command=worker_command(file),
            environment=worker_environment(site, environ) | marker,
            directory=site.directory,
            log=logs / "worker.log",
            farewell=grace,
            ready=partial(worker_is_up, site.socket),
            hung_after=_WORKER_HUNG,
            explain=partial(_explain_worker, longest=site.worker.longest_request),
        ),
        Child(
            name=SUPERNODE,
            command=node,
            environment=environment,
            directory=home,
            log=logs / "supernode.log",
            account=account,
            secret=site.path(site.server.key) if account else None,
            ready=partial(supernode_is_up, site.worker.runtime_port),
            hung_after=_SUPERNODE_HUNG,
            explain=partial(explain, address=site.server.address),
            notice=once_each(),
        ),
        Child(SUPEREXEC, executor, environment, home, logs / "superexec.log", account),
    ]


def worker_command(file: Path) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "clients.deployment.daemon", str(file.absolute()))


def flower_commands(site: SiteFile, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``flower-supernode`` and ``flower-superexec``, with ``key`` as the file of the site's private key.

    Raises:
        ConfigError: the socket's path cannot be handed to Flower.
    """
    if {'"', "'", "\\", "\n"} & set(str(site.socket)):
        raise ConfigError(f"worker.socket='{site.socket}' has a quote or a backslash, which Flower cannot pass on.")
    secret = str(secret_file(site))
    node = (
        *("flower-supernode", "--superlink", site.server.address),
        *("--root-certificates", str(site.path(site.server.ca_certificate))),
        *("--auth-supernode-private-key", key),
        *("--host", _LOOPBACK, "--port", str(site.worker.runtime_port)),
        *("--isolation", "process", "--superexec-auth-secret-file", secret),
        *("--node-config", f'site-socket="{site.socket}"'),
    )
    executor = (
        *("flower-superexec", "--insecure", "--runtime-api-address", f"{_LOOPBACK}:{site.worker.runtime_port}"),
        *("--superexec-auth-secret-file", secret),
    )
    return node, executor


def flower_processes_environment(site: SiteFile, environ: Mapping[str, str]) -> dict[str, str]:
    """All of it: of this process's own only language, time zone, proxies and where Python's modules are."""
    proxies = [name for proxy in _PROXIES for name in (proxy, proxy.lower())]
    kept = {name: environ[name] for name in (*_KEPT, *proxies) if name in environ}
    home = site.folder("flower")
    return (
        kept
        | flower_environment(kept, home, programs=programs_directory(site))
        | {
            "HOME": str(home),
            "OMP_NUM_THREADS": "1",
            # Seconds between two looks for a message; Flower's own is 1.
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        }
    )


def worker_environment(site: SiteFile, environ: Mapping[str, str]) -> dict[str, str]:
    """This process's, without the network's models, and with the threads that ``site.yaml`` allows."""
    threads = {"OMP_NUM_THREADS": str(site.worker.threads)} if site.worker.threads else {}
    # The same PYTHONPATH as Flower's processes have, which start in another directory.
    paths = {name: value for name, value in flower_environment(environ, Path()).items() if name == "PYTHONPATH"}
    settings = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return {**environ, **paths, **threads, **settings}


def programs_directory(site: SiteFile) -> Path:
    """Where the programs lie that Flower's executor finds first. Flower's user can read it, and not change it."""
    return site.state_directory / "programs"


def _explain_worker(code: int, tail: Sequence[str], longest: int) -> Ending:
    if code == OVERDUE:
        return Ending(
            f"ended itself: a request lasted longer than worker.longest-request ({longest} s) and was refused. Does "
            "the disk with the data answer, does the GPU? If it only needs so long, allow more"
        )
    return plain_ending(code, tail)
