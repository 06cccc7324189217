"""The fields that an answer may have: for each its type, and the values that the site knows it may take.

Every string is one that the site can name beforehand. There is no field for words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clients.egress.refused import EgressRefused
from clients.egress.terms import Terms
from clients.egress.withholding import LOSS, SPLITS, TEST
from fedmedpeft.exchange import AnswersReply, JoinReply, ReferenceReply, VisitReply
from fedmedpeft.privacy.units import UNITS


@dataclass(frozen=True)
class FieldRule:
    """What a field may be.

    Args:
        kind: its exact type.
        allows: whether a value of that type may leave.
        optional: whether it may be missing.
    """

    kind: type
    allows: Callable[[Any, Terms], bool]
    optional: bool = False


def check_fields(values: Mapping[str, Any], reply: type, terms: Terms) -> None:
    """Exactly the fields of ``reply``, each with a value that may leave. Raises EgressRefused."""
    rules = FIELDS[reply]
    if not set(values) <= set(rules):
        raise EgressRefused("a field that no such answer has")
    for name, rule in rules.items():
        if name not in values:
            if not rule.optional:
                raise EgressRefused(f"field '{name}' is missing")
        elif type(values[name]) is not rule.kind:
            raise EgressRefused(f"field '{name}' is not of type {rule.kind.__name__}")
        elif not rule.allows(values[name], terms):
            raise EgressRefused(f"field '{name}' has a value that it cannot have")


def _withheld(value: str, _: Terms) -> bool:
    """Names in their order, each once."""
    names = value.split(",") if value else []
    return names == [name for name in (*SPLITS, LOSS) if name in names]


def _at_least(least: float) -> Callable[[Any, Terms], bool]:
    return lambda value, _: math.isfinite(value) and value >= least


def _known(what: Callable[[Terms], str | None]) -> FieldRule:
    return FieldRule(str, lambda value, terms: value == what(terms))


_SITE = _known(lambda terms: terms.site)
_PRIVATE = FieldRule(str, lambda value, _: value in ("", *UNITS))
_SECONDS = FieldRule(float, _at_least(0))
_STATE = FieldRule(str, lambda value, terms: value == terms.manifest_hash, optional=True)
_ANY_BOOL = FieldRule(bool, lambda value, _: True)

FIELDS: Mapping[type, Mapping[str, FieldRule]] = {
    AnswersReply: {"site": _SITE},
    JoinReply: {
        "site": _SITE,
        "classes": _known(lambda terms: terms.classes),
        "synthetic": _ANY_BOOL,
        "fingerprint": _known(lambda terms: terms.fingerprint),
        "manifest_hash": _known(lambda terms: terms.manifest_hash),
        "state_hash": _known(lambda terms: terms.start_hash),
        # Of a partition of all sites' data, which a hospital does not have.
        "partition_hash": _known(lambda _: ""),
        "shares_images": FieldRule(bool, lambda value, _: value, optional=True),
        "private": _PRIVATE,
        "manifest_hash_of_state": _STATE,
    },
    VisitReply: {
        "site": _SITE,
        "round": FieldRule(int, _at_least(1)),
        "samples": FieldRule(int, _at_least(1)),
        # nan says that nothing is told.
        "loss": FieldRule(float, lambda value, _: not math.isinf(value)),
        "steps": FieldRule(int, _at_least(0)),
        "seconds": _SECONDS,
        "private": _PRIVATE,
        "epsilon": FieldRule(float, _at_least(0), optional=True),
        "delta": FieldRule(float, lambda value, _: 0 < value < 1, optional=True),
        "within": FieldRule(bool, lambda value, _: True, optional=True),
        "withheld": FieldRule(str, _withheld),
        "manifest_hash_of_state": _STATE,
    },
    ReferenceReply: {
        "site": _SITE,
        # A pooled one needs the data of all sites in one place, which a hospital is not.
        "kind": FieldRule(str, lambda value, _: value == "local-only"),
        "seconds": _SECONDS,
        "withheld": FieldRule(str, lambda value, _: value in ("", TEST)),
    },
}
"""By kind of answer."""
