"""Can the images be decoded?"""

from __future__ import annotations

import hashlib

import numpy as np

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from fedmedpeft.data.errors import DataError

SAMPLE = 64
"""Images that are decoded unless all are asked for."""
_MOST_UNREADABLE = 0.5


def check_images(facts: Facts) -> Result:
    """Decode a sample, or all; with all, find images that are the same pixel for pixel in two splits."""
    rows = np.unique(facts.source.table.first_rows())
    if not facts.thorough and len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
    broken: list[str] = []
    splits_of: dict[str, set[int]] = {}
    for row in rows.tolist():
        try:
            image = facts.source.image(row)
        except DataError as error:
            broken.append(str(error))
            continue
        content = hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()
        splits_of.setdefault(content, set()).add(int(facts.partition.split_of[row]))
    told = f"{len(rows) - len(broken):,} of {len(rows):,} images decoded"
    told += " (all)" if facts.thorough else " (a sample; --thorough takes all)"
    if len(broken) > _MOST_UNREADABLE * len(rows):
        return failed(f"only {told}.", "See the reasons with --details; check the paths and the format.", *broken)
    if broken:
        return warned(f"{told}; the others would be left out.", "See which with --details, and mend them.", *broken)
    twice = sum(len(splits) > 1 for splits in splits_of.values())
    if twice:
        return warned(
            f"{told}; {twice:,} are in more than one split, the same pixel for pixel.",
            "Remove the copies, or give copies the same 'patient': a test on them is of images already seen.",
        )
    return passed(f"{told}.")
