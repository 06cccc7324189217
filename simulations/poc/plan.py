"""What is shown: whose data, which run, and whether something happens meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedmedpeft.components import ComponentSpec, ConfigError, parse_spec
from fedmedpeft.config import RunConfig
from fedmedpeft.data import build_source

RUN = "poc"
INTRUDER = "intruder"
_PATHS = ("path", "root")
_DEADLINE = 120.0
"""Seconds for a round. Flower takes one minute to notice that a site is gone."""
_STEPS, _STEPS_QUICK = 20, 10
"""Of a round: long enough to be killed in the middle of it; and short."""
_LEAST = 2
"""Sites that a round needs; with a site killed, so many must be left."""


@dataclass(frozen=True)
class Plan:
    """A checked plan.

    Attributes:
        data: source of which every site takes its own rows; paths are absolute.
        synthetic: whether it is procedural.
        description: of the data, for a person.
        classes: all labels.
        images: by site, in the order of names.
        rounds: of the run.
        events: whether sites and server are killed, and a stranger knocks.
    """

    data: str
    synthetic: bool
    description: str
    classes: tuple[str, ...]
    images: dict[str, int]
    rounds: int
    events: bool

    @classmethod
    def make(cls, data: str, sites: int, rounds: int, *, events: bool) -> Self:
        """Look at the data.

        Raises:
            ConfigError: too few sites or rounds for what is to happen, or the data is not of so many sites.
            DataError: it cannot be read.
        """
        _check_size(sites, rounds, events=events)
        spec = _with_whole_paths(parse_spec(data))
        source = build_source(str(spec))
        found = Counter(source.table.sites or ())
        if len(found) < sites:
            raise ConfigError(
                f"data='{data}' is of {len(found)} sites, and {sites} were asked for. Name data with a site column of "
                f"as many (phantoms(scanners={sites}, images={160 * sites}), or a manifest with a column `site`), or "
                "lower --sites."
            )
        taken = dict(sorted(found.most_common(sites)))
        if INTRUDER in taken:
            raise ConfigError(f"data='{data}' has a site '{INTRUDER}', which is what the uninvited one is called here.")
        return cls(str(spec), source.synthetic, source.description, source.table.classes, taken, rounds, events)

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.images)

    @property
    def victim(self) -> str:
        """The site that is killed: the largest, which takes longest."""
        return max(self.images, key=lambda site: self.images[site])

    def config(self) -> RunConfig:
        """What the server announces."""
        return RunConfig(
            data=self.data,
            sites=len(self.sites),
            min_sites=_LEAST,
            rounds=self.rounds,
            local_steps=_STEPS if self.events else _STEPS_QUICK,
            references="none",
            round_timeout=_DEADLINE,
            run_name=RUN,
        )


def _check_size(sites: int, rounds: int, *, events: bool) -> None:
    """Raises ConfigError."""
    if sites < _LEAST + events:
        raise ConfigError(
            f"--sites {sites} is too few: a round needs {_LEAST}"
            + (", and one site more is killed. With --quick nobody is." if events else ".")
        )
    if events and rounds < 3:
        raise ConfigError(
            f"--rounds {rounds} is too few: a site is killed in round 1 and the server in round 2, and round 3 shows "
            "what is left of that. With --quick one round is enough."
        )


def _with_whole_paths(spec: ComponentSpec) -> ComponentSpec:
    """Sites read it from other directories than this one."""
    options = {
        key: str(Path(str(value)).expanduser().absolute()) if key in _PATHS and value else value
        for key, value in spec.options.items()
    }
    return ComponentSpec(spec.name, options)
