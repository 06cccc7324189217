"""Files that people write in YAML, and the one way to read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeGuard, get_args, get_origin

from pydantic import ValidationError

from fedmedpeft.components import ConfigError, explain
from fedmedpeft.section import Section
from fedmedpeft.strict_yaml import read_yaml, refuse_unknown


class WrittenFile(Section):
    """A whole file. What it holds may be sections, or lists of them."""

    kind: ClassVar[str]
    """What errors call such a file."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``path``.

        Raises:
            ConfigError: it cannot be read, is no YAML, has an unknown key, or a value that cannot be.
        """
        content = read_yaml(path, cls.kind)
        name = f"{cls.kind} '{path}'"
        _refuse_unknown_below(content, cls, name)
        try:
            return cls.model_validate(content | cls.known_of(path))
        except ValidationError as error:
            why = explain(error)
            raise ConfigError(f"{name}: {why}{'' if why.endswith(('.', '?')) else '.'}{cls.hint(content)}") from None

    @classmethod
    def known_of(cls, path: Path) -> dict[str, Any]:
        """Fields that are not written in the file."""
        return {}

    @classmethod
    def hint(cls, content: Mapping[str, Any]) -> str:
        """What may help, whichever value of ``content`` cannot be."""
        return ""


def _refuse_unknown_below(content: object, model: type[Section], name: str, where: str = "") -> None:
    """Raise ConfigError for a key that no section has; what is no mapping is for the models to refuse."""
    refuse_unknown(content, model, name, where)
    for key, field in model.model_fields.items():
        alias = field.alias or key
        inner, below = content.get(alias) if isinstance(content, Mapping) else None, f"{where}.{alias}".lstrip(".")
        if _is_section(field.annotation):
            _refuse_unknown_below(inner, field.annotation, name, below)
        elif get_origin(field.annotation) is list and _is_section(entry := get_args(field.annotation)[0]):
            for number, one in enumerate(inner if isinstance(inner, list) else ()):
                _refuse_unknown_below(one, entry, name, f"{below}.{number}")


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)
