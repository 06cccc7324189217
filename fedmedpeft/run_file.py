"""A run's configuration as a file that people write, send to each other and keep."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from fedmedpeft.components import ConfigError


def read_run_file(path: Path) -> dict[str, Any]:
    """Keys of a TOML file, or of its table ``[config]`` where it has one, as a run's own ``config.toml`` does.

    Args:
        path: of the file, or of a run's directory.

    Raises:
        ConfigError: it cannot be read. Keys and values are for :class:`fedmedpeft.config.RunConfig` to check.
    """
    file = path
    try:
        file = path / "config.toml" if path.is_dir() else path
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Run configuration '{file}' cannot be read ({error.strerror}). Name a TOML file.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"Run configuration '{file}' cannot be read: it is not TOML ({error}). Expected lines of key = value."
        ) from None
    table = content.get("config", content)
    if not isinstance(table, dict):
        raise ConfigError(f"Run configuration '{file}': config={table!r} must be a table, [config].")
    return table
