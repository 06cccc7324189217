"""Canaries by fair coins: mislabelled images among the training data, and whether the released adapter knows them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedpeft.data.split import Split
from fedmedpeft.privacy.accountant import Spending, epsilon
from simulations.audit.audited import AuditedPrivacy, AuditRun
from simulations.audit.contribution import contribute, losses, plain_trainer, private_trainer
from simulations.audit.lower_bound import Bound, bound
from simulations.audit.rows import take, with_targets_of

LARGEST_DELTA = 1e-5
"""Of the bounds: with m canaries 2 m delta is what the theorem gives away, so a larger delta would show little."""
_FEWEST = 8


@dataclass(frozen=True)
class Planted:
    """Training data with canaries in it.

    Attributes:
        split: all of the site's units that are no canaries, and the canaries that are in.
        probes: all M canaries.
        included: bool [M].
    """

    split: Split
    probes: Split
    included: NDArray[np.bool_]


def coins(count: int) -> NDArray[np.bool_]:
    """Fair and independent, from the operating system, so that no seed of the run has to do with them."""
    return np.frombuffer(os.urandom(count), dtype=np.uint8) >= 128


def plant(run: AuditRun) -> Planted | None:
    """Half of the site's units as canaries: one row of each, with what is right for another row.

    None where there are too few units, or all rows have the same label and answer.
    """
    split, units = run.data.train, run.units
    generator = np.random.default_rng([run.seed, units.count])
    chosen = torch.from_numpy(np.sort(generator.permutation(units.count)[: units.count // 2]))
    targets = [str(pair) for pair in zip(split.labels.tolist(), split.answers or [""] * len(split), strict=True)]
    if len(chosen) < _FEWEST or len(set(targets)) < 2:
        return None
    first = {int(unit): row for row, unit in reversed(list(enumerate(units.of_row.tolist())))}
    canaries = torch.tensor([first[unit] for unit in chosen.tolist()])
    told, of = torch.arange(len(split)), np.array(targets)
    for row in canaries.tolist():
        told[row] = int(generator.choice(np.flatnonzero(of != of[row])))
    relabelled, included = with_targets_of(split, told), coins(len(canaries))
    others = torch.arange(len(split))[~torch.isin(units.of_row, chosen)]
    rows = torch.cat([others, canaries[torch.from_numpy(included)]])
    return Planted(take(relabelled, rows), take(relabelled, canaries), included)


@dataclass(frozen=True)
class Shown:
    """A bound beside what the accountant says of the same training, both at ``delta``; ``inf`` without privacy."""

    bound: Bound
    upper: float
    delta: float


def attack_released(run: AuditRun, planted: Planted, private: bool) -> Shown:
    """Train once; guess by how much lower the loss of each canary is than that of the initial model."""
    run.say(f"canaries among the images: one training {'with' if private else 'without'} privacy")
    trainer = private_trainer(run) if private else plain_trainer(run)
    state = contribute(run, trainer, planted.split, seed=run.seed)
    scores = losses(run, None, planted.probes) - losses(run, state, planted.probes)
    delta = audited_delta(run.privacy)
    upper = upper_bound(run.privacy, delta) if private and run.privacy else math.inf
    return Shown(bound(scores, planted.included, delta), upper, delta)


def audited_delta(privacy: AuditedPrivacy | None) -> float:
    """The delta of all bounds of an audit."""
    return min(privacy.delta, LARGEST_DELTA) if privacy else LARGEST_DELTA


def upper_bound(privacy: AuditedPrivacy, delta: float) -> float:
    """What the accountant says of the whole run."""
    history = [Spending(privacy.noise_multiplier, privacy.sample_rate, privacy.steps)]
    return epsilon(history, delta, privacy.accounting)
