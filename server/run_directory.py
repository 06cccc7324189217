"""What a run leaves behind, file by file, each replaced as a whole."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from fedmedpeft import __version__
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError, parse_composition, parse_spec
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Scores
from fedmedpeft.tasks import build_task
from server.checkpoints import Checkpoints
from server.joining import Federation
from server.records import ReferenceRecord, RoundRecord, SiteRecord
from server.run_state import CHECKPOINTS, RESUME_FILE, SUMMARY_FILE, History

_VERSIONS = ("flwr", "torch", "transformers", "numpy", "safetensors")
# Columns of sites.csv by what was scored: the state that came, and at the end what the site made of it alone.
_SCORED = {"received_val_": "val", "received_test_": "test", "own_test_": "own-test"}

_HOW_TO_RESUME = """\
# This run has not come to its end. If its server was stopped, go on with it:
#   at hospitals:     fedmedpeft server submit '{path}' --kit KIT
#   in simulation:    fedmedpeft run --config '{path}'
# The file goes away when the run is complete. Change nothing in it but round-timeout and device.
"""

Row = dict[str, Any]


@dataclass
class RunDirectory:
    """``<runs-dir>/<name>/``; made by :meth:`create`, or there already where a run goes on."""

    path: Path
    config: RunConfig
    _rounds: list[Row] = field(default_factory=list)
    _sites: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        task = build_task(self.config.task)
        self._primary, self._metrics = task.primary, task.metrics
        self.checkpoints = Checkpoints(self.path / CHECKPOINTS)

    @classmethod
    def create(cls, config: RunConfig, *, simulated: bool = True) -> RunDirectory:
        """Make a new directory; a taken name gets ``-2``, ``-3``, ... and nothing is ever overwritten.

        Args:
            simulated: as in :func:`run_name`.

        Raises:
            ConfigError: it cannot be made.
        """
        parent = Path(config.runs_dir).absolute()
        name = config.run_name or run_name(config, datetime.now(), simulated=simulated)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number, path = 1, parent / name
            while not _claim(path):
                number += 1
                path = parent / f"{name}-{number}"
        except OSError as error:
            raise ConfigError(
                f"runs-dir='{config.runs_dir}': '{parent / name}' cannot be made ({error.strerror}). "
                "Name a directory that this user may write."
            ) from None
        directory = cls(path, config)
        directory.write_config(None)
        directory.write_how_to_resume()
        return directory

    @property
    def name(self) -> str:
        return self.path.name

    def write_how_to_resume(self) -> None:
        """``resume.toml``: the configuration with which the run goes on, should it be cut off."""
        announced = tomli_w.dumps(self.config.to_mapping() | {"resume": self.name})
        write_atomically(self.path / RESUME_FILE, _HOW_TO_RESUME.format(path=self.path / RESUME_FILE) + announced)

    def write_begin(self, flower_run: str) -> None:
        """Note that Flower's run of this id writes from now on; how earlier ones failed no longer counts."""
        History((*History.read(self.path).flower_runs, flower_run)).write(self.path)

    def write_failure(self, why: str) -> None:
        """Note the sentence with which the run failed."""
        History(History.read(self.path).flower_runs, why).write(self.path)

    def write_config(self, federation: Federation | None) -> None:
        """``config.toml``: the complete configuration, versions and, once known, what the sites agreed on."""
        content: dict[str, Any] = {"config": self.config.to_mapping() | {"resume": ""}, "versions": versions()}
        if federation:
            # How many nodes there were decides what `auto` and 0 mean: without it the partition cannot be made again.
            content["config"]["sites"] = len(federation.sites) + len(federation.left_out)
            content["federation"] = {
                "partition-hash": federation.partition_hash,
                "classes": list(federation.classes),
                "synthetic": bool(federation.synthetic_sites),
                "fingerprint": federation.fingerprint,
                "manifest-hash": federation.contract.manifest.hash,
                "initial-state-hash": federation.state_hash,
                "sites": {site.name: dict(site.samples) for site in federation.sites},
                "left-out": {left.name: left.reason for left in federation.left_out},
            }
        write_atomically(self.path / "config.toml", tomli_w.dumps(content))

    def add_round(self, record: RoundRecord) -> None:
        """One line of ``rounds.csv``."""
        site, value = record.worst(self._primary)
        self._rounds.append(
            {
                "round": record.round,
                "outcome": record.outcome,
                "val_loss": record.loss,
                f"val_{self._primary}": record.mean(self._primary),
                "worst_site": site,
                f"worst_val_{self._primary}": value,
                "sites_scored": len(record.scores),
                "sites_withholding": len(record.withheld),
                "sites_used": record.used,
                "sites_asked": record.asked,
                "bytes_up": record.up,
                "bytes_down": record.down,
                "seconds": record.seconds,
                "drawn": " ".join(record.drawn),
                "clip": record.private.clip if record.private else "",
                "share_within_clip": record.private.within if record.private else "",
                "noise_of_mean": record.private.noise if record.private else "",
            }
        )
        self._write_csv("rounds.csv", self._rounds)

    def add_sites(self, records: Sequence[SiteRecord]) -> None:
        """One line of ``sites.csv`` per site; the scores are of the state that the site was sent.

        Round 0 is the joining; the last visit, which only evaluates, has the number after the last round.
        """
        for r in records:
            row: Row = {"round": r.round, "site": r.site, "outcome": r.outcome, "samples": r.samples}
            row |= {"steps": r.steps, "train_loss": r.loss}
            for prefix, split in _SCORED.items():
                row |= self._score_cells(prefix, r.scores.get(split))
            row |= {"bytes_up": r.up, "bytes_down": r.down, "seconds": r.seconds, "drawn": " ".join(r.drawn)}
            row |= {"private": r.private, "epsilon": r.epsilon, "delta": r.delta}
            row |= {"withheld": " ".join(r.withheld)}
            self._sites.append(row)
        self._write_csv("sites.csv", self._sites)

    def write_references(self, records: Sequence[ReferenceRecord]) -> None:
        """``references.csv``: one line per reference and what it was tested on."""
        rows = []
        for record in records:
            tests: Mapping[str, Scores | None] = record.scores or {"": None}
            for tested_on, scores in tests.items():
                row: Row = {"kind": record.kind, "trained_at": record.site, "outcome": record.outcome}
                row |= {"tested_on": tested_on, **self._score_cells("", scores), "seconds": record.seconds}
                rows.append(row)
        self._write_csv("references.csv", rows)

    def rows(self) -> tuple[list[Row], list[Row]]:
        """Of ``rounds.csv`` and ``sites.csv``, as far as they are written."""
        return list(self._rounds), list(self._sites)

    def put_back(self, rounds: Sequence[Row], sites: Sequence[Row]) -> None:
        """Have what :meth:`rows` gave earlier, and nothing else, in both files."""
        self._rounds, self._sites = list(rounds), list(sites)
        for filename, rows in (("rounds.csv", self._rounds), ("sites.csv", self._sites)):
            (self.path / filename).unlink(missing_ok=True)
            self._write_csv(filename, rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """``summary.json``, the last file of all: with it the run is complete. What is not a number becomes null."""
        write_atomically(self.path / SUMMARY_FILE, json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n")
        (self.path / RESUME_FILE).unlink(missing_ok=True)

    def write_model_card(self, text: str) -> None:
        write_atomically(self.path / "MODEL_CARD.md", text)

    def _score_cells(self, prefix: str, scores: Scores | None) -> Row:
        cells: Row = {"samples": scores.samples if scores else "", "loss": scores.loss if scores else ""}
        cells |= {name: scores.metrics.get(name, "") if scores else "" for name in self._metrics}
        return {f"{prefix}{name}": value for name, value in cells.items()}

    def _write_csv(self, filename: str, rows: Sequence[Row]) -> None:
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
            write_atomically(self.path / filename, text.getvalue())


def run_name(config: RunConfig, now: datetime, *, simulated: bool = True) -> str:
    """``<method>-<source>-<date>-<time>``; without the source where sites are not ``simulated``, but have their own.

    >>> run_name(RunConfig(method="lora(rank=8)", data="phantoms"), datetime(2026, 1, 2, 3, 4, 5))
    'lora-phantoms-20260102-030405'
    """
    # A colon (peft:oft) separates paths in many tools, and no Windows file may have one.
    method = "+".join(spec.name.replace(":", "-") for spec in parse_composition(config.method))
    source = f"-{parse_spec(config.data).name}" if simulated else ""
    return f"{method}{source}-{now:%Y%m%d-%H%M%S}"


def _claim(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def versions() -> dict[str, str]:
    """Of this program and of the packages that its results depend on."""
    found = {"fedmedpeft": __version__, "python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
