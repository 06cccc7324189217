"""YAML as a person means it: a key written twice is an error, ``1e-3`` is a number, and ``off`` or ``no`` is text."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from fedmedpeft.components import ConfigError, suggest

# YAML 1.1 takes 1e-3 for text, since it has no point; YAML 1.2 and everyone who writes it take it for a number.
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, strict about keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key}' is there twice", problem_mark=key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


# So do YAML 1.2 and everyone else with yes, no, on and off, which are labels and settings here.
_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: Path, name: str = "YAML file") -> dict[str, Any]:
    """The mapping in a YAML file, which errors call ``name``.

    Raises:
        ConfigError: it cannot be read, is no YAML, has a key twice, or is no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{name} '{path}' cannot be read ({error.strerror}). Name a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name} '{path}' cannot be read: it is not UTF-8 text. Name a YAML file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{name} '{path}'{where}: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{name} '{path}' holds {content!r}. Expected lines of key: value.")
    return content


def refuse_unknown(content: object, model: type[BaseModel], name: str, section: str = "") -> None:
    """Raise ConfigError for a key that ``model`` does not have, with the one that was probably meant.

    Args:
        content: of the file, or of one ``section`` of it; what is no mapping is for the model to refuse.
        name: of the file, for the error.
    """
    known = [field.alias or key for key, field in model.model_fields.items() if not field.exclude]
    for key in content if isinstance(content, Mapping) else ():
        if key not in known:
            where = f"{section}.{key}" if section else key
            raise ConfigError(f"{name} has no key '{where}'.{suggest(key, known)} Known: {', '.join(known)}.")
