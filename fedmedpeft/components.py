"""Named components with options, written as text: ``lora(rank=8)``, ``dirichlet(alpha=0.3)``, ``phantoms``.

Flower's run configuration holds only numbers, booleans and strings. Methods, data sources and partitioners each
have options of their own, so one small notation serves them all, and a new component with new options needs no
change to the configuration. Every name and every option is checked, with a suggestion for the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

Value = bool | int | float | str
T = TypeVar("T")

# Of a stripped text, and with no two stretches of blanks side by side, which take the square of their length to fail.
_CALL = re.compile(r"(?P<name>[A-Za-z][\w:.-]*)(?:\s*\((?P<args>.*)\))?", re.DOTALL)
# A comma, parenthesis or "+" inside quotes belongs to the quoted value.
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


class ConfigError(ValueError):
    """Something in the configuration is wrong; the message names the key, the value and the fix."""


class Options(BaseModel):
    """Base of every component's options: unknown names and wrong types are errors, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NoOptions(Options):
    """For components without options."""


@dataclass(frozen=True)
class ComponentSpec:
    """A component's name and its options as written, e.g. ``lora(rank=8)``."""

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{k}={_render(v)}' for k, v in self.options.items())})"


def suggest(name: str, known: Iterable[str]) -> str:
    """A "did you mean" half-sentence, or an empty string where nothing is near.

    >>> suggest("lorra", ["lora", "head"])
    " Did you mean 'lora'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def parse_spec(text: str) -> ComponentSpec:
    """Read one component.

    >>> parse_spec("lora(rank=8, targets='q,v')").options
    {'rank': 8, 'targets': 'q,v'}
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"'{text}' is not a component. Write a name, with options in parentheses: lora(rank=8).")
    options: dict[str, Value] = {}
    for part in _split(match["args"] or "", ","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(f"'{part.strip()}' in '{text}' is not an option. Write name=value, as in lora(rank=8).")
        if key.strip() in options:
            raise ConfigError(f"Option '{key.strip()}' appears twice in '{text}'. Keep one of them.")
        options[key.strip()] = _value(value.strip())
    return ComponentSpec(match["name"], options)


def parse_composition(text: str) -> tuple[ComponentSpec, ...]:
    """Read components joined by ``+``; the order written does not matter and a name may appear once.

    >>> [spec.name for spec in parse_composition("vpt-deep(tokens=5)+lora")]
    ['lora', 'vpt-deep']
    """
    specs = sorted((parse_spec(part) for part in _split(text, "+")), key=lambda spec: spec.name)
    if not specs:
        raise ConfigError("An empty text names no component.")
    for name, times in Counter(spec.name for spec in specs).items():
        if times > 1:
            raise ConfigError(f"'{name}' appears {times} times in '{text}'. Name each component once.")
    return tuple(specs)


class Registry(Generic[T]):
    """Components of one kind by name. ``kind`` is the word used in messages, e.g. ``method``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[Callable[..., T], type[Options]]] = {}

    def register(self, name: str, options: type[Options] = NoOptions) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator: make ``factory(options)`` available under ``name``."""

        def decorate(factory: Callable[..., T]) -> Callable[..., T]:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} '{name}' is registered twice.")
            self._entries[name] = (factory, options)
            return factory

        return decorate

    def names(self) -> list[str]:
        return sorted(self._entries)

    def factory(self, name: str) -> Callable[..., T]:
        """The registered class or function itself, for its documentation."""
        return self._entry(name)[0]

    def options_type(self, name: str) -> type[Options]:
        return self._entry(name)[1]

    def build(self, spec: ComponentSpec | str) -> T:
        """Check ``spec`` and make the component.

        Raises:
            ConfigError: unknown name, unknown option or a value that does not fit; the message says which.
        """
        spec = parse_spec(spec) if isinstance(spec, str) else spec
        factory, options_type = self._entry(spec.name)
        for key in spec.options:
            if key not in options_type.model_fields:
                known = ", ".join(options_type.model_fields) or "none"
                raise ConfigError(
                    f"{self.kind} '{spec.name}' has no option '{key}'."
                    f"{suggest(key, options_type.model_fields)} Its options: {known}."
                )
        try:
            options = options_type.model_validate(dict(spec.options))
        except ValidationError as error:
            raise ConfigError(f"{self.kind} '{spec}': {explain(error)}") from None
        return factory(options)

    def _entry(self, name: str) -> tuple[Callable[..., T], type[Options]]:
        if name not in self._entries:
            raise ConfigError(
                f"There is no {self.kind} '{name}'.{suggest(name, self._entries)} Known: {', '.join(self.names())}."
            )
        return self._entries[name]


_PLAIN_WORDS = {
    "string_type": "must be text; where it may be read as something else, put it in quotes",
    "bool_type": "must be true or false",
    "model_type": "must hold key: value",
    "dict_type": "must hold key: value",
}
"""For what people write most often in place of something else, by pydantic's name of the error."""


def shaped(pattern: str, words: str) -> AfterValidator:
    """For text that must match all of ``pattern``; an error says so in ``words``, which people can read."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


def explain(error: ValidationError) -> str:
    """Pydantic's findings as one line: name, value, what was expected."""
    findings = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = _PLAIN_WORDS.get(item["type"]) or item["msg"].removeprefix("Value error, ").removesuffix(".")
        if item["type"] == "missing":
            # What pydantic shows as the input is everything around what is missing.
            findings.append(f"'{where}' is missing")
        else:
            findings.append(f"{where}={item['input']!r}: {message}" if where else message)
    return "; ".join(findings)


def _split(text: str, separator: str) -> list[str]:
    """Split at ``separator`` outside quotes and parentheses; blank text gives no parts."""
    if not text.strip():
        return []
    masked = _QUOTED.sub(lambda m: "_" * len(m[0]), text)
    parts, depth, start = [], 0, 0
    for position, character in enumerate(masked):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _value(text: str) -> Value:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _render(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    return f'"{value}"' if "'" in value else f"'{value}'"
