"""What a privacy ledger is about: one data set, one unit, one delta. Epsilons of others do not add up with it."""

from __future__ import annotations

import re
from pathlib import Path

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.ledger_lines import LedgerError
from fedmedpeft.privacy.units import Unit


def check_delta(delta: float, unit: Unit, units: int) -> None:
    """Refuse a delta with which publishing some units outright would count as private.

    Raises:
        LedgerError: it is not above 0 and below 1 / ``units``, or there are none.
    """
    if units < 1:
        raise LedgerError(f"There is nothing to train on: the data set has {units} {unit}s.")
    if not 0 < delta < 1 / units:
        raise LedgerError(
            f"delta={delta:g} must be above 0 and below 1/n = {1 / units:.3g}, n being {units:,} {unit}s: else "
            f"publishing one of them would count as private. Take 1/(10 n) = {1 / (10 * units):.3g} or less; a ledger "
            "that has begun keeps its delta, so train on fewer.",
            public="The site's delta is not below one over the number of its units.",
        )


def check_hash(data_hash: str) -> None:
    """Refuse what can be no data set's hash, such as its first digits: a ledger about it would fit nothing.

    Raises:
        ConfigError: it is none.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", data_hash):
        raise ConfigError(
            f"--data-hash '{data_hash}' is no hash of a data set, which has 64 digits of 0-9 and a-f. Take it from "
            "the refusal in the site's log."
        )


def refuse_other_data(path: Path, about: str, data_hash: str, units: int | None = None) -> None:
    """Refuse ``data_hash``, a data set of so many ``units``, unless the ledger is ``about`` it.

    Raises:
        LedgerError: it is not; the message is the command that mends it.
    """
    if about != data_hash:
        count = "" if units is None else f" --units {units}"
        raise LedgerError(
            f"The data set changed under its privacy ledger '{path}': it is about {about[:12]}, the data are "
            f"{data_hash[:12]}. If they are the same people's, what was spent must go on counting: `fedmedpeft privacy "
            f"adopt '{path}' --data-hash {data_hash}{count} --reason '...'`. If they are others', give them their own "
            "ledger.",
            public="The site's data set is not the one that its privacy ledger is about; its log says how to adopt it.",
        )


def refuse_other_terms(path: Path, held: tuple[Unit, float], asked: tuple[Unit, float | None]) -> None:
    """Refuse another unit or delta than the ledger's.

    Raises:
        LedgerError: the pair that is ``asked`` for is not the one that is ``held``. A delta of None asks for none.
    """
    (unit, delta), (other_unit, other_delta) = held, asked
    if other_unit != unit:
        raise LedgerError(
            f"The privacy ledger '{path}' counts epsilon per {unit}, and this run would per {other_unit}: they do not "
            f"add up. Set unit='{unit}'.",
            public="The site's privacy ledger protects another unit than this run would.",
        )
    if other_delta not in (None, delta):
        raise LedgerError(
            f"The privacy ledger '{path}' has delta={delta:g}, and this run asks for {other_delta:g}: a data set has "
            f"one. Set delta={delta!r}, or leave it out.",
            public="The site's privacy ledger has another delta than this run asks for.",
        )
