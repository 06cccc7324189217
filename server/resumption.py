"""A run that was cut off and goes on: is it the same run, and is nobody else writing it?"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedmedpeft.components import ConfigError, suggest
from fedmedpeft.config import RunConfig
from fedmedpeft.file_lock import locked
from server.courier import Say
from server.run_directory import RunDirectory, versions
from server.run_state import LOCK_FILE, RESUME_FILE, SUMMARY_FILE

MAY_DIFFER = ("device", "resume", "round-timeout", "run-name", "runs-dir")
"""Keys that change nothing of what a run computes."""


@contextmanager
def open_run(config: RunConfig, say: Say, *, simulated: bool) -> Iterator[RunDirectory]:
    """The directory of the run that ``config`` wants to go on with; a new one where it wants no such thing.

    Nobody else may write it meanwhile. However this process ends, the operating system takes the lock back.

    Args:
        simulated: as in :func:`server.run_directory.run_name`.

    Raises:
        ConfigError: there is no such run, it has come to its end, it was started with another configuration, or another
            server on this machine is writing it.
    """
    directory = _existing(config) if config.resume else RunDirectory.create(config, simulated=simulated)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(directory.path / LOCK_FILE, wait=False))
        except BlockingIOError:
            raise ConfigError(
                f"resume='{config.resume}': a server is writing '{directory.path}' at this moment. Wait for its end, "
                "or stop it first (`flwr list`, `flwr stop RUN-ID`)."
            ) from None
        if config.resume:
            _check_resumable(config, directory.path, say)
        yield directory


def _existing(config: RunConfig) -> RunDirectory:
    path = Path(config.runs_dir).absolute() / config.resume
    if not (path / "config.toml").is_file():
        there = [found.parent.name for found in path.parent.glob("*/config.toml")]
        raise ConfigError(
            f"resume='{config.resume}': there is no such run in runs-dir='{path.parent}'."
            f"{suggest(config.resume, there)}"
        )
    return RunDirectory(path, config)


def _check_resumable(config: RunConfig, path: Path, say: Say) -> None:
    """Raises ConfigError where the run in ``path`` is complete, or ``config`` is another one's."""
    if (path / SUMMARY_FILE).is_file():
        raise ConfigError(
            f"resume='{config.resume}': this run has come to its end, '{path / SUMMARY_FILE}' has its result. "
            "Leave resume empty to start another one."
        )
    try:
        written = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        began, before = RunConfig.from_mapping(written["config"]).to_mapping(), dict(written["versions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"resume='{config.resume}': '{path / 'config.toml'}' is damaged or of another version ({error})."
        ) from None
    asked = config.to_mapping()
    # The file has how many nodes there were; a run may have been started without saying.
    free = MAY_DIFFER if config.sites else (*MAY_DIFFER, "sites")
    differing = [key for key in asked if key not in free and asked[key] != began[key]]
    if differing:
        words = "; ".join(f"{key}={asked[key]!r}, it began with {began[key]!r}" for key in differing)
        raise ConfigError(
            f"resume='{config.resume}': the run began with another configuration: {words}. Nothing but "
            f"{', '.join(MAY_DIFFER)} may differ: go on with '{path / RESUME_FILE}'."
        )
    other = [f"{name} {before.get(name)} -> {now}" for name, now in versions().items() if before.get(name) != now]
    if other:
        say(f"WARNING: the run began with other versions ({'; '.join(other)}): it may not end bit by bit the same.")
