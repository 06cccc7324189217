"""What server and site worker say to each other: plain values, whatever carries them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from fedmedpeft.exchange.peft_state import EncodedState

Reference = Literal["local-only", "pooled"]


class Refusal(IntEnum):
    """Why a site sends an error in place of a reply. The number travels, with a sentence that is safe to show."""

    CONFIGURATION = 101
    DATA = 102
    BACKBONE = 103
    CONTRACT = 104
    TRAINING = 105
    INTERNAL = 106
    STATE = 107
    CLASSES = 108
    PRIVACY = 109
    BUDGET = 110
    POLICY = 111
    EGRESS = 112
    LATER = 113
    CODE = 114
    REPEATED = 115
    DRY_RUN = 116
    MEMORY = 117
    DISK = 118
    UNREACHABLE = 119


class SiteError(Exception):
    """A site cannot do what was asked. ``reason`` holds no file name, no patient and no value from the data."""

    def __init__(self, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Scores:
    """An evaluation on the wire: aggregates only."""

    samples: int
    loss: float
    metrics: dict[str, float]
    counts: list[int]
    """Whole numbers that add up over sites; the task knows what they count."""


@dataclass(frozen=True)
class AnswersRequest:
    """Before sites join, where the federation agrees on the classes: which answers does your training data have?"""

    run: str


@dataclass(frozen=True)
class AnswersReply:
    """How often each answer occurs in a site's training data, without those that are too rare to be named there."""

    site: str
    counts: dict[str, int]


@dataclass(frozen=True)
class JoinRequest:
    """Before the first round: who are you, and do we agree? One site is also asked for the initial state.

    Args:
        run: its name.
        send_state: whether to send the initial state.
        classes: one a line, where the federation agreed on them; None where each site's data names them, or nothing
            does.
    """

    run: str
    send_state: bool
    classes: str | None = None


@dataclass(frozen=True)
class JoinReply:
    """A site introduces itself.

    Args:
        site: its name.
        classes: class names in the order of their indices, one a line, where its data names them; else empty.
        synthetic: whether its images are procedural.
        fingerprint: of the backbone it loaded.
        manifest_hash: of the PEFT state it derived from its own configuration.
        state_hash: of its initial PEFT state; equal at all sites of one run.
        samples: images (or questions) per split, ``train``, ``val``, ``test``.
        skipped: those left out, by public reason.
        state: the initial PEFT state, where asked for.
        partition_hash: of the partition it made, where it sees all data (simulation).
        shares_images: True where some test questions are about images that are also in train; None elsewhere.
        private: what its updates are differentially private per (``record``, ``image``, ``patient``); empty: they
            are not.
    """

    site: str
    classes: str
    synthetic: bool
    fingerprint: str
    manifest_hash: str
    state_hash: str
    samples: dict[str, int]
    skipped: dict[str, int] = field(default_factory=dict)
    state: EncodedState | None = None
    partition_hash: str = ""
    shares_images: bool | None = None
    private: str = ""


@dataclass(frozen=True)
class VisitRequest:
    """One visit: evaluate the state as it comes, then (unless ``last``) train on it.

    Args:
        run: name of the run; sites keep what stays with them under it.
        round: counted from 1; the state that comes is the one after round ``round - 1``.
        last: after the last round, only to evaluate; the test split is evaluated too.
        fingerprint: of the run's backbone.
        proximal: FedProx's mu, 0 elsewhere.
        state: the global PEFT state; with a rotation what lies outside of it, and the groups that ``sends`` names.
        train: groups of the rotation to train and give back, comma-separated; empty without one and in the last visit.
        sends: groups of the rotation in ``state``; of all others the site has the values already.
        state_hash: of the whole global state, which the site must have once it has read this; empty without a rotation.
        classes: as in :class:`JoinRequest`, for a site that may have lost them; None for all others.
        clip: largest norm of an update, which the site keeps to; 0: none. Client-level privacy, clipped at the site.
        notice: why this site's last answer did not count, for its own log; None where it did.
    """

    run: str
    round: int
    last: bool
    fingerprint: str
    proximal: float
    state: EncodedState
    train: str = ""
    sends: str = ""
    state_hash: str = ""
    classes: str | None = None
    clip: float = 0.0
    notice: str | None = None


@dataclass(frozen=True)
class VisitReply:
    """What a site gives back: its state, and aggregates.

    Args:
        before: scores of the state that came, per split (``val``; with ``last`` also ``test``).
        samples: training images or questions.
        loss: mean training loss; nan without training, and where it is private.
        steps: optimiser steps taken.
        seconds: time spent in training and evaluation.
        state: the trained state, with a rotation without the groups that were not trained; None after the last round.
        private: as in :class:`JoinReply`.
        epsilon: what the site's data has spent by now, over all runs, where the site tells.
        delta: of that epsilon.
        within: whether the update kept to ``clip`` before it was clipped, where the request asks for that.
        withheld: what the site's policy keeps back, comma-separated: splits (``val``, ``test``) whose scores are not in
            ``before``, and ``loss``, which is then nan.
    """

    site: str
    round: int
    before: dict[str, Scores]
    samples: int
    loss: float
    steps: int
    seconds: float
    state: EncodedState | None
    private: str = ""
    epsilon: float | None = None
    delta: float | None = None
    within: bool | None = None
    withheld: str = ""


@dataclass(frozen=True)
class ReferenceRequest:
    """Train a reference at the site, from the same start and for as many steps; nothing but scores comes back.

    Args:
        kind: which.
        run: its name, where the site keeps the run's classes under it; else None.
    """

    kind: Reference
    run: str | None = None


@dataclass(frozen=True)
class ReferenceReply:
    """Scores of the reference by what it was tested on.

    ``local-only``: ``test`` (this site's own split), and ``union`` where the site can see all test splits (simulation)
    and scores on both compare.
    ``pooled``: ``test/<site>`` for every site, and ``union``.

    ``withheld``: ``test`` where the site's policy keeps its scores back, which are then not in ``scores``; else empty.
    """

    site: str
    kind: Reference
    scores: dict[str, Scores]
    seconds: float
    withheld: str = ""
