"""The site's data: readable, of known labels, and no patient in two splits. What is told are counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clients.deployment.own_data import own_partition, own_source
from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from fedmedpeft.config import RunConfig
from fedmedpeft.data.source import SPLITS, ImageTable
from fedmedpeft.data.units import group_units, straddling
from fedmedpeft.tasks import build_task

_LARGE_CLASS_LIST = 20


def check_data(facts: Facts) -> Result:
    """Does the source open, with no label but the federation's? Raises DataError and ConfigError as it does."""
    facts.source = source = own_source(facts.site)
    table = source.table
    return passed(f"{len(table):,} {table.unit} of {len(table.classes)} classes.")


def check_labels(facts: Facts) -> Result:
    """Does site.yaml name the federation's labels, where the run asks for them?"""
    if build_task((facts.announced or RunConfig()).task).classes_from != "data":
        return passed("the run does not ask for the labels of the data.")
    if not facts.site.data.classes:
        return failed(
            "'data.classes' is empty: this site refuses runs that classify, as labels are told to the server.",
            "Set 'data.classes' to the federation's list, which the coordinator has.",
            f"the labels of the data here are: {', '.join(facts.source.table.classes)}",
        )
    return passed(
        f"'data.classes' names the federation's {len(facts.site.data.classes)} labels; the data has no other."
    )


def check_leakage(facts: Facts) -> Result:
    """Is any patient in more than one split of the source's own?"""
    table = facts.source.table
    units = group_units(table)
    if table.patients is None:
        return warned(
            "the data does not say who its patients are: one may be in training and test, and nobody could tell.",
            "Add a column 'patient' (any code that stays here, such as a keyed hash).",
        )
    if table.splits is None:
        return passed(f"the split is drawn by patient ({_counted(facts, len(units))} patients).")
    codes = np.array([SPLITS.index(split) for split in table.splits])
    torn = straddling(units, codes)
    if torn and table.splits_share_patients:
        return warned(
            f"the published split has {_counted(facts, torn)} patients in more than one split.",
            "Nothing: it is that data set's own. Its test scores are of patients already seen.",
        )
    if torn:
        return failed(
            f"{_counted(facts, torn)} of {_counted(facts, len(units))} patients are in more than one split: the test "
            "would be of patients already seen.",
            "Correct the column 'split', or leave it out: then the split is drawn by patient.",
            *_torn_patients(table, codes),
        )
    return passed(f"no patient is in more than one split ({_counted(facts, len(units))} patients).")


def check_counts(facts: Facts) -> Result:
    """Classes and patients of each split. Raises DataError where there is too little to train on."""
    facts.partition = partition = own_partition(facts.config, facts.source, facts.site.site)
    table, counts = facts.source.table, partition.counts()[0]
    rows = dict(zip(SPLITS, counts.sum(axis=1).tolist(), strict=True))
    told = f"{_listed(facts, rows)}{_by_class(facts, table, counts)}"
    details = tuple(
        f"{name}: " + ", ".join(f"{label} {count}" for label, count in zip(table.classes, row, strict=True))
        for name, row in zip(SPLITS, counts.tolist(), strict=True)
    )
    train = partition.rows(facts.site.site, "train")
    patients = len({table.patients[row] for row in train.tolist()}) if table.patients is not None else None
    wrong = []
    if table.answers is None and len(table.classes) > 1 and (counts[0] > 0).sum() < 2:
        wrong.append("training has one class only")
    wrong += [f"there is nothing in {name}" for name, count in rows.items() if not count]
    if patients is not None and patients < facts.site.policy.smallest_count:
        wrong.append(f"training is of fewer than {facts.site.policy.smallest_count} patients")
    if wrong:
        return warned(
            f"{told}; {'; '.join(wrong)}.", "Add data, or agree with the coordinator that it is enough.", *details
        )
    return passed(f"{told}.", *details)


def _by_class(facts: Facts, table: ImageTable, counts: np.ndarray) -> str:
    """Training rows of each class, by names only where these are the federation's anyway."""
    if not facts.site.data.classes or table.answers is not None or len(table.classes) > _LARGE_CLASS_LIST:
        return ""
    return f"; training by class: {_listed(facts, dict(zip(table.classes, counts[0].tolist(), strict=True)))}"


def _listed(facts: Facts, counts: Mapping[str, int]) -> str:
    """All ``counts``, or none of them where one may not leave: it would follow from the others and their sum."""
    smallest = facts.site.policy.smallest_count
    if any(0 < count < smallest for count in counts.values()):
        return f"fewer than {smallest} in at least one of {', '.join(counts)}"
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _counted(facts: Facts, count: int) -> str:
    """A count as the policy lets it leave: the report may be mailed to the coordinator."""
    smallest = facts.site.policy.smallest_count
    return f"fewer than {smallest}" if 0 < count < smallest else f"{count:,}"


def _torn_patients(table: ImageTable, codes: np.ndarray) -> list[str]:
    assert table.patients is not None
    seen: dict[str, set[str]] = {}
    for patient, code in zip(table.patients, codes.tolist(), strict=True):
        seen.setdefault(patient, set()).add(SPLITS[code])
    return [f"patient '{patient}': {', '.join(sorted(splits))}" for patient, splits in seen.items() if len(splits) > 1]
