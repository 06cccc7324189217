"""YAML as a person means it: a key written twice is an error, and ``1e-3`` is a number."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from fedmedpeft.components import ConfigError

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


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: it cannot be read, is no YAML, has a key twice, or is no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}). Name a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"'{path}' cannot be read: it is not UTF-8 text. Name a YAML file.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"'{path}'{where}: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' holds {content!r}. Expected key: value lines, such as name: my-study.")
    return content
