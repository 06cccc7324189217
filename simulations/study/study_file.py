"""What a person writes to compare methods: one strict YAML file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from fedmedpeft.components import ComponentSpec, Value, parse_composition, parse_spec, suggest
from fedmedpeft.config import RunConfig
from fedmedpeft.written_file import WrittenFile

_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*")
_SET_BY_THE_STUDY = {
    "method": "list methods under 'methods'",
    "seed": "list seeds under 'seeds'",
    "partition": "list partitions under 'partitions'",
    "learning-rate-scale": "list scales under 'learning-rate-scales'",
    "references": "name a method under 'references'",
    "mode": "name a method under 'references'; all other runs are federated",
    "run-name": "the study names its runs",
    "runs-dir": "say where with --out",
    "resume": "a study that is started again goes on by itself",
}
# What is learnt, and what decides who has which images: were it to differ between methods, nothing could be compared.
_DATA_KEYS = ("task", "data", "partition-seed", "sites", "val-fraction", "test-fraction", "min-train-per-site")


def same_method(text: str) -> tuple[ComponentSpec, ...]:
    """What two spellings of one composition have in common.

    >>> same_method("lora+head") == same_method("head + lora")
    True
    """
    return parse_composition(text)


def _plain_name(name: str) -> str:
    if not _PLAIN.fullmatch(name):
        raise ValueError("a plain name is needed, of letters, digits, '-', '_' and '.'; it names a directory")
    return name


def _once(identity: Callable[[Any], Any]) -> AfterValidator:
    """Each entry once, compared by ``identity``."""

    def check(values: Sequence[Any]) -> Sequence[Any]:
        found: list[Any] = []
        for value in values:
            if identity(value) in found:
                raise ValueError(f"'{value}' is there twice; keep one")
            found.append(identity(value))
        return values

    return AfterValidator(check)


_Scale = Annotated[float, Field(gt=0)]
_Settings = dict[str, Value]


class Study(WrittenFile):
    """One comparison. Every method is run with every seed on every partition.

    Methods and partitions are checked further when it is planned.
    """

    kind: ClassVar[str] = "Study"

    name: Annotated[str, AfterValidator(_plain_name)] = Field(description="of the study, and of its directory")
    methods: Annotated[list[str], Field(min_length=1), _once(same_method)] = Field(
        description="PEFT methods, each as for `fedmedpeft run --method`"
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), _once(int)] = Field(
        [0, 1, 2], description="one run per method, partition and seed"
    )
    partitions: Annotated[list[str], Field(min_length=1), _once(parse_spec)] = Field(
        ["auto"], description="how images are divided over the sites"
    )
    run: _Settings = Field({}, description="keys of `fedmedpeft config` that all runs share")
    partition_seeds: Literal["per-seed", "fixed"] = Field(
        "per-seed", description="per-seed: the splits vary with the seed; fixed: they are always the same"
    )
    learning_rate_scales: Annotated[list[_Scale], Field(min_length=1), _once(float)] = Field(
        [0.3, 1.0, 3.0], description="the grid, the same for every method; one entry: no search"
    )
    references: str | None = Field(None, description="method with which local-only and pooled are trained; null: none")
    overrides: dict[str, _Settings] = Field({}, description="by method, keys of `fedmedpeft config` for it alone")

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        _check_keys("run", self.run, ())
        if self.partition_seeds == "per-seed" and "partition-seed" in self.run:
            raise ValueError("run: 'partition-seed' is set by the study; write partition-seeds: fixed to set it")
        known = [*self.methods, *([self.references] if self.references else [])]
        for method, settings in self.overrides.items():
            if method not in known:
                raise ValueError(f"overrides: '{method}' is not among the methods.{suggest(method, known)}")
            _check_keys(f"overrides: {method}", settings, _DATA_KEYS)
        return self

    def settings(self, method: str) -> dict[str, Value]:
        """What the file says about the runs of ``method``, dashed keys."""
        return self.run | self.overrides.get(method, {})

    @classmethod
    def hint(cls, content: Mapping[str, Any]) -> str:
        """A comma inside a [list] ends the entry, which is easily overlooked in ``lora(rank=4, alpha=8)``."""
        for key in ("methods", "partitions"):
            entries = content.get(key)
            texts = [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
            if any(text.count("(") != text.count(")") for text in texts):
                return f" {key}: in a [list] quote what has a comma, or write one entry per line."
        return ""


def _check_keys(where: str, settings: _Settings, refused: Sequence[str]) -> None:
    known = [str(field.alias) for field in RunConfig.model_fields.values()]
    for key, value in settings.items():
        if key in _SET_BY_THE_STUDY:
            raise ValueError(f"{where}: '{key}' is set by the study: {_SET_BY_THE_STUDY[key]}")
        if key in refused:
            raise ValueError(f"{where}: '{key}' must be the same for all methods; set it under 'run'")
        if key not in known:
            raise ValueError(f"{where}: unknown key '{key}'.{suggest(key, known)} `fedmedpeft config` lists all keys")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where}: {key}={value} is not finite")
