"""Flower's processes as another user than the worker: that user is checked to reach what it needs, and nothing else."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from clients.site_file import SiteFile
from clients.state_directory import refuse_others_directory
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError, parse_spec
from fedmedpeft.supervision import Account

_PASS_THROUGH = 0o711
_PRIVATE = 0o700


def flower_account(site: SiteFile) -> Account | None:
    """The user of ``worker.flower-user``; None where Flower's processes run as whoever starts them.

    Raises:
        ConfigError: no such user, root itself, or a start without the right to become another user.
    """
    name = site.worker.flower_user
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f"worker.flower-user='{name}': this machine has no such user. Make it: "
            f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        ) from None
    if entry.pw_uid == 0:
        raise ConfigError(f"worker.flower-user='{name}' is root, who can read all data. Name a user without rights.")
    if os.geteuid() != 0:
        raise ConfigError(
            f"worker.flower-user='{name}': only root can start processes as another user. Start as root (as a service "
            "with User=root), or leave flower-user empty: then Flower's processes run as the same user as the worker, "
            "and only our code keeps them from the data, not the operating system."
        )
    return Account(
        name, entry.pw_uid, entry.pw_gid, tuple(sorted({entry.pw_gid, *os.getgrouplist(name, entry.pw_gid)}))
    )


def secret_file(site: SiteFile) -> Path:
    """What SuperNode and SuperExec know each other by.

    Not in Flower's own directory: there its user could put a link in the place of the file, and have root give it
    whatever the link leads to.
    """
    return site.state_directory / "superexec.secret"


def prepare_flower_home(site: SiteFile, account: Account | None) -> Path:
    """Flower's directory below state, of its own user, and beside it the secret of its two processes.

    Raises:
        ConfigError: it cannot be made.
    """
    home = site.folder("flower")
    secret = secret_file(site)
    try:
        home.mkdir(parents=True, exist_ok=True)
        refuse_others_directory(site.state_directory)
        site.state_directory.chmod(_PASS_THROUGH if account else _PRIVATE)
        home.chmod(_PRIVATE)
        if not secret.is_file():
            write_atomically(secret, secrets.token_hex(32), mode=0o600)
        for path in (home, secret):
            os.chown(path, account.uid if account else os.geteuid(), account.gid if account else os.getegid())
    except OSError as error:
        raise ConfigError(
            f"state='{site.state_directory}' cannot be prepared: {error}. It must belong to the user that starts "
            "the site."
        ) from None
    return home


def check_separation(site: SiteFile, account: Account, environment: Mapping[str, str]) -> list[str]:
    """Try, as ``account``, to read what it needs and what it must never read; the latter in words, all refused to it.

    Raises:
        ConfigError: it cannot read the former, or can read one of the latter.
    """
    needed = {"server.ca-certificate": site.path(site.server.ca_certificate)}
    kept = kept_from_flower(site)
    found = _readable_as(account, [*needed.values(), *kept.values()], environment, site.folder("flower"))
    for what, path in needed.items():
        if path not in found:
            raise ConfigError(
                f"{what}='{path}' cannot be read by worker.flower-user='{account.name}', whose processes need it. Give "
                "it to all (it is no secret): chmod a+r, and a+x for its directories."
            )
    for what, path in kept.items():
        if path in found:
            raise ConfigError(
                f"{what} ('{path}') can be read by worker.flower-user='{account.name}', whose processes talk to the "
                f"network. Take that right away: chmod -R o-rwx '{path}', and look at its groups."
            )
    return list(kept)


def kept_from_flower(site: SiteFile) -> dict[str, Path]:
    """What only the worker may read, as far as it is there."""
    kept = {"the site's key": site.path(site.server.key)}
    kept |= {f"state/{name}": site.folder(name) for name in ("runs", "ledger", "audit", "dry-run", "logs")}
    options = parse_spec(site.data.source).options.values()
    kept |= {f"data '{path.name}'": path for value in options if (path := site.path(str(value))).exists()}
    return {what: path for what, path in kept.items() if path.exists()}


def _readable_as(account: Account, paths: list[Path], environment: Mapping[str, str], directory: Path) -> set[Path]:
    command = [sys.executable, "-P", "-m", "clients.processes.access_probe", *map(str, paths)]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=dict(environment),
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {Path(path) for path in json.loads(done.stdout)}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", "") or str(error)
        raise ConfigError(
            f"worker.flower-user='{account.name}' cannot run this program ({' '.join(told.split())[-200:]}). It must "
            f"be able to pass through '{directory.parent}' and its parents (chmod o+x) and to read this Python "
            f"environment ('{sys.prefix}')."
        ) from None
