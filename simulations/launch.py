"""``fedmedpeft run``: Flower's own ``flwr run``, with everything around it that would otherwise be done by hand."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from fedmedpeft.config import RunConfig
from server.app_directory import make_app_directory
from server.processes.follow import Follower
from simulations.environment import flower_home, flower_settings
from simulations.superlink import LocalSuperLink

_PREFIX = re.compile(r"^Simulation failed with exception: ")


@dataclass(frozen=True)
class Launch:
    """What to start.

    Args:
        config: checked, with absolute paths.
        sites: nodes of the federation.
        cpus_per_site: CPU cores that one site's training gets; sets how many sites work at the same time.
        gpus_per_site: share of a GPU that one site's training gets, e.g. 0.5.
        online: allow a backbone to be fetched from the Hugging Face hub.
    """

    config: RunConfig
    sites: int
    cpus_per_site: int = 1
    gpus_per_site: float = 0.0
    online: bool = False

    def federation(self) -> str:
        """Flower's ``--federation-config``. Ray gets no more cores than the sites can use: each starts a process."""
        cores = min(os.cpu_count() or 1, self.sites * self.cpus_per_site)
        return (
            f"num-supernodes={self.sites} client-resources-num-cpus={self.cpus_per_site} "
            f"client-resources-num-gpus={self.gpus_per_site} init-args-num-cpus={max(cores, self.cpus_per_site)}"
        )

    def command(self, session: Path) -> list[str]:
        return [
            *("flwr", "run", str(session / "app"), "--stream"),
            *("--run-config", str(session / "run-config.toml"), "--federation-config", self.federation()),
        ]


@dataclass(frozen=True)
class Outcome:
    """How a launch ended: the run's directory where it completed, else the reason and where the log is."""

    directory: Path | None
    reason: str = ""
    log: Path | None = None


def run(launch: Launch, say: Callable[[str], None], *, verbose: bool = False) -> Outcome:
    """Start the federation, show its progress, wait for its end, and leave no process behind, whatever happens.

    Args:
        say: gets every line for a person, or with ``verbose`` every line there is.

    Raises:
        LaunchError: Flower itself could not be started.
    """
    with _session(launch) as (session, environment):
        log = session / "run.log"
        with LocalSuperLink(session, session / "cwd", environment):
            follower = Follower(launch.command(session), session / "cwd", environment, log, say, verbose)
            follower.follow()
            completed, details = follower.status()
        directory = follower.run_directory
        if completed and directory is not None and (directory / "summary.json").is_file():
            shutil.rmtree(session, ignore_errors=True)
            return Outcome(directory)
        lines = _PREFIX.sub("", details or "").strip().splitlines()
        return Outcome(None, lines[0] if lines else "the run ended without a result", log)


@contextmanager
def _session(launch: Launch) -> Iterator[tuple[Path, dict[str, str]]]:
    """Files and environment of one launch. Only its logs outlive it, and those only where it failed."""
    home = flower_home(os.environ) / "launches"
    home.mkdir(parents=True, exist_ok=True)
    session = Path(tempfile.mkdtemp(dir=home, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    # Ray keeps sockets here, whose paths must stay short.
    ray_directory = Path(tempfile.mkdtemp(prefix="fmp-"))
    try:
        (session / "cwd").mkdir()
        make_app_directory(session / "app")
        (session / "run-config.toml").write_text(tomli_w.dumps(launch.config.to_mapping()), encoding="utf-8")
        yield session, {**os.environ, **flower_settings(os.environ, session, ray_directory, online=launch.online)}
    except KeyboardInterrupt:
        shutil.rmtree(session, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(ray_directory, ignore_errors=True)
        for leftover in ("app", "apps", "cwd"):
            shutil.rmtree(session / leftover, ignore_errors=True)
