"""``fedmedpeft site status``: what runs at this site, and what it has spent."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from clients.processes.site_processes import SUPERNODE, WORKER
from clients.processes.start_command import LOCK, RECORD
from clients.processes.supernode_log import CONNECTED
from clients.processes.worker_door import worker_status
from clients.site_file import SiteFile
from fedmedpeft.chained_file import said_by_head
from fedmedpeft.components import ConfigError
from fedmedpeft.console_table import show_table
from fedmedpeft.file_lock import is_locked
from fedmedpeft.supervision.record import endings, read_record


@dataclass(frozen=True)
class SiteStatus:
    """What can be known from outside.

    Attributes:
        started: whether ``fedmedpeft site start`` runs.
        worker: what the worker says of itself; None where it does not answer.
        processes: name -> pid, since, restarts, said, ended (at, why).
        connected: whether the SuperNode said so last.
        epsilon: spent, by ledger.
        audit_lines: of the audit log.
        audit_hash: of the last of them, unverified; empty where there is no line.
    """

    site: str
    server: str
    started: bool
    worker: dict[str, Any] | None
    processes: dict[str, dict[str, Any]]
    connected: bool
    epsilon: dict[str, float]
    audit_lines: int
    audit_hash: str

    @property
    def well(self) -> bool:
        return self.worker is not None and self.connected


def read_status(file: Path) -> SiteStatus:
    """Raises ConfigError where the site's files cannot be read."""
    site = SiteFile.load(file)
    try:
        lines, last = said_by_head(site.audit_log) or (0, "")
        started = is_locked(site.state_directory / LOCK)
        processes = read_record(site.state_directory / RECORD) if started else {}
        return SiteStatus(
            site=site.site,
            server=site.server.address,
            started=started,
            worker=worker_status(site.socket),
            processes=processes,
            connected=str(processes.get(SUPERNODE, {}).get("said", "")).startswith(CONNECTED),
            epsilon=_spent(site.folder("ledger")),
            audit_lines=lines,
            audit_hash=last,
        )
    except PermissionError as error:
        raise ConfigError(
            f"'{error.filename}' cannot be read. Ask as the user that runs `fedmedpeft site start`, or as root."
        ) from None


def show_status(status: SiteStatus, *, as_json: bool) -> None:
    if as_json:
        content = {name.replace("_", "-"): value for name, value in asdict(status).items()}
        typer.echo(json.dumps(content, indent=2))
        return
    state = "started" if status.started else "not started (`fedmedpeft site start`)"
    rows = [[name, *_row(process)] for name, process in status.processes.items()]
    title = f"Site '{status.site}', server {status.server}: {state}"
    if rows:
        show_table(title, _COLUMNS, rows, numbers_from=9)
    else:
        typer.echo(title)
    for sentence in endings(status.processes, time.time()):
        typer.echo(sentence)
    typer.echo(f"Worker: {_worker_sentence(status.worker)}")
    for name, epsilon in status.epsilon.items():
        typer.echo(f"Privacy spent in {name}: epsilon {epsilon:.3f}")
    known = f"{status.audit_lines} lines, last hash {status.audit_hash}"
    known = known if status.audit_hash else "no line yet, or its head file is gone or damaged"
    typer.echo(f"Audit log: {known} (`fedmedpeft audit-log verify`)")


_COLUMNS = ("process", "pid", "up for", "restarts", "last said")


def _row(process: dict[str, Any]) -> list[str]:
    since = process.get("since")
    up = "-" if since is None else f"{max(time.time() - since, 0) / 60:.0f} min"
    return [str(process.get("pid") or "-"), up, str(process.get("restarts", 0)), str(process.get("said") or "")]


def _worker_sentence(worker: dict[str, Any] | None) -> str:
    if worker is None:
        return f"does not answer; see {WORKER}.log"
    round_ = "" if worker.get("round") is None else f", round {worker['round']}"
    run = f" of run '{worker['run']}'{round_}" if worker.get("run") else ""
    if worker.get("busy"):
        return f"busy with '{worker['busy']}'{run}, for {time.time() - worker.get('since', time.time()):.0f} s"
    if not worker.get("outcome"):
        return "up; nothing was asked of it yet"
    reason = f" ({worker['reason']})" if worker.get("reason") else ""
    return f"up; last: {worker['outcome']}{reason}{run}, {worker.get('seconds', 0.0):.0f} s"


def _spent(folder: Path) -> dict[str, float]:
    if not folder.is_dir() or not any(folder.iterdir()):
        return {}
    # Reading a ledger takes seconds to import; a site without privacy has none.
    from fedmedpeft.privacy.ledger import LEDGER_SUFFIX, Ledger, LedgerError

    spent = {}
    for path in sorted(folder.glob(f"*{LEDGER_SUFFIX}")):
        try:
            spent[path.name] = Ledger.read(path).epsilon()
        except LedgerError:
            spent[f"{path.name} (does not verify)"] = float("nan")
    return spent
