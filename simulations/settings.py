"""From what a person wrote (file, ``--set``, options) to one checked RunConfig."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmedpeft.components import ComponentSpec, ConfigError, parse_spec, suggest
from fedmedpeft.config import RunConfig
from fedmedpeft.run_file import read_run_file

# Options of sources, partitions and tasks that name a place on this machine.
_PATHS = ("path", "root", "answers")
# Of privacy.
_PRIVACY_PATHS = ("path", "ledger", "reference")
# Of knowledge, where ``root`` is a term of an ontology.
_KNOWLEDGE_PATHS = ("path",)
# Options of backbones that may.
_TOWERS = ("vision", "text", "checkpoint")


def read_settings(
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    *,
    start: Mapping[str, Any] | None = None,
) -> RunConfig:
    """``start`` or the defaults, changed by ``file``, ``assignments`` (``key=value``), ``options`` that are not None.

    Paths become absolute, since the run starts in a directory of its own.

    Raises:
        ConfigError: an unreadable file, an unknown key, or a value that does not fit.
    """
    values: dict[str, Any] = dict(start or {})
    if file is not None:
        values |= read_run_file(file)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set '{assignment}' is not an assignment. Write key=value, as in --set rounds=5.")
        values[key.strip()] = _typed(key.strip(), value.strip())
    values |= {key: value for key, value in (options or {}).items() if value is not None}
    config = RunConfig.from_mapping(values)
    return RunConfig.from_mapping(config.to_mapping() | _absolute(config))


def _typed(key: str, text: str) -> Any:
    """``text`` as what the key holds: text stays as written (less one pair of quotes), the rest is read as TOML."""
    fields = {field.alias: field for field in RunConfig.model_fields.values()}
    if key not in fields:
        near = suggest(key, map(str, fields))
        raise ConfigError(f"--set: unknown key '{key}'.{near} `fedmedpeft config` lists all keys.")
    if fields[key].annotation not in (int, float, bool):
        quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _absolute(config: RunConfig) -> dict[str, str]:
    return {
        "runs-dir": str(Path(config.runs_dir).expanduser().absolute()),
        "task": _with_absolute_paths(config.task),
        "data": _with_absolute_paths(config.data),
        "partition": _with_absolute_paths(config.partition),
        "backbone": _backbone(config.backbone),
        "privacy": _with_absolute_paths(config.privacy, _PRIVACY_PATHS),
        "knowledge": _with_absolute_paths(config.knowledge, _KNOWLEDGE_PATHS) if config.knowledge else "",
        "start-from": str(Path(config.start_from).expanduser().absolute()) if config.start_from else "",
    }


def _backbone(text: str) -> str:
    """Names stay as they are; of a backbone made of several, what is there as a file or a directory is a path."""
    whole = Path(text).expanduser()
    if whole.is_dir() or "(" not in text:
        return str(whole.absolute()) if whole.is_dir() else text
    return _with_absolute_paths(text, [key for key in _TOWERS if _exists(parse_spec(text).options.get(key))])


def _exists(value: object) -> bool:
    return bool(value) and Path(str(value)).expanduser().exists()


def _with_absolute_paths(text: str, keys: Sequence[str] = _PATHS) -> str:
    spec = parse_spec(text)
    places = {key: value for key, value in spec.options.items() if key in keys and value}
    if not places:
        return text
    absolute = {key: str(Path(str(value)).expanduser().absolute()) for key, value in places.items()}
    return str(ComponentSpec(spec.name, {**spec.options, **absolute}))
