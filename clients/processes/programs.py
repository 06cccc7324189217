"""The programs that are found before Flower's own: ours for SuperNode and ClientApps, and for all other tasks one that
refuses.

A server could also ask a site to run an "AgentApp", or another kind of task, whose code comes with it. None is wanted
here.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType

from clients.processes.clientapp_process import TOKEN
from fedmedpeft.atomic_file import write_atomically

_OURS = "clients.processes.clientapp_process"
_SUPERNODE = """#!/bin/sh
exec {python} -P -m clients.processes.supernode_process "$@"
"""
_CLIENTAPP = """#!/bin/sh
# All users of a machine can see a command. Whoever has a task's token could answer in this site's name, so it goes on
# in the environment, which only this user can see.
count=$#
while [ "$count" -gt 0 ]; do
  case $1 in
    --token) shift; count=$((count - 1)); {token}=$1; export {token} ;;
    *) set -- "$@" "$1" ;;
  esac
  shift; count=$((count - 1))
done
exec {python} -P -m {module} "$@"
"""
"""-P: no module of the directory that it happens to start in."""


def write_programs(directory: Path) -> Path:
    """Write the programs into ``directory``, which others may read and only its owner may change."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    for task, command in TASK_TYPE_TO_COMMAND.items():
        write_atomically(directory / command, _script(task, command), mode=0o755)
    script = _SUPERNODE.format(python=shlex.quote(sys.executable))
    write_atomically(directory / "flower-supernode", script, mode=0o755)
    return directory


def _script(task: TaskType, command: str) -> str:
    if task == TaskType.CLIENT_APP:
        return _CLIENTAPP.format(token=TOKEN, python=shlex.quote(sys.executable), module=_OURS)
    return f'#!/bin/sh\necho "Refused: this site runs no {command}." >&2\nexit 1\n'
