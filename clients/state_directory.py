"""Whose the site's state is: a directory of somebody else is not private, whatever its mode."""

from __future__ import annotations

import os
from pathlib import Path

from fedmedpeft.components import ConfigError


def refuse_others_directory(directory: Path) -> None:
    """Raises ConfigError unless ``directory`` belongs to this process's user."""
    if directory.stat().st_uid != os.geteuid():
        raise ConfigError(
            f"'{directory}' belongs to another user, who could read or replace what lies there. chown it to the user "
            "that starts the site, or name another directory with 'state'."
        )
