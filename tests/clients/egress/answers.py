"""Answers of every kind that may leave, and what the site knows of them."""

from __future__ import annotations

import math

import numpy as np

from clients.egress.gate import EgressGate
from clients.egress.terms import Terms
from clients.egress.withholding import Reply
from clients.policy_section import PolicySection
from fedmedpeft.exchange import (
    AnswersReply,
    Contract,
    JoinReply,
    Manifest,
    PeftState,
    ReferenceReply,
    Scores,
    TensorSpec,
    VisitReply,
)
from fedmedpeft.tasks import build_task

SITE, CLASSES, FINGERPRINT = "hospital-a", ("cyst", "nodule"), "f" * 64
POLICY = PolicySection(references=True, smallest_count=5)
TASK = build_task("classification", CLASSES)
VQA = build_task("vqa(min_count=2)")
MANIFEST = Manifest.of(
    [
        TensorSpec("blocks.0.lora.a", (2, 3), "method"),
        TensorSpec("blocks.1.lora.a", (4,), "method"),
        TensorSpec("head.weight", (2, 3), "head"),
    ]
)
CONTRACT = Contract(MANIFEST, max_norm=100.0)


def state(seed: int) -> PeftState:
    rng = np.random.default_rng(seed)
    return PeftState.from_tensors(MANIFEST, {spec.name: rng.normal(size=spec.shape) for spec in MANIFEST.tensors})


START, TRAINED = state(0), state(1)


def scores(*counts: int, auroc: float = 0.9) -> Scores:
    """Of a confusion matrix of two classes."""
    metrics = TASK.metrics_of_counts(counts) | {"auroc": auroc}
    return Scores(sum(counts), 0.4, metrics, list(counts))


ANSWERS = AnswersReply(SITE, {"yes": 12, "no": 7, "left lung": 5})
JOIN = JoinReply(
    site=SITE,
    classes="\n".join(CLASSES),
    synthetic=False,
    fingerprint=FINGERPRINT,
    manifest_hash=MANIFEST.hash,
    state_hash=START.hash(),
    samples={"train": 80, "val": 30, "test": 0},
    skipped={"An image file is missing.": 6},
    state=START.encode(),
    private="patient",
)
VISIT = VisitReply(
    site=SITE,
    round=3,
    before={"val": scores(10, 5, 0, 15)},
    samples=80,
    loss=0.7,
    steps=10,
    seconds=1.5,
    state=TRAINED.encode(),
    private="patient",
    epsilon=1.25,
    delta=1e-5,
    within=True,
)
LAST = VisitReply(
    site=SITE,
    round=4,
    before={"val": scores(10, 5, 0, 15), "own-val": scores(15, 0, 0, 15)},
    samples=80,
    loss=math.nan,
    steps=0,
    seconds=0.5,
    state=None,
    withheld="test",
)
REFERENCE = ReferenceReply(SITE, "local-only", {"test": scores(20, 0, 7, 20)}, 12.0)

REPLIES: dict[str, Reply] = {
    "answers": ANSWERS,
    "join": JOIN,
    "visit": VISIT,
    "last": LAST,
    "reference": REFERENCE,
}


def terms(reply: Reply, section: PolicySection = POLICY) -> Terms:
    """What the site knows when it answers with ``reply``."""
    task = VQA if isinstance(reply, AnswersReply) else TASK
    contract = CONTRACT if isinstance(reply, JoinReply | VisitReply) else None
    return Terms(section, SITE, FINGERPRINT, task, contract, START if contract else None)


def gate(reply: Reply, section: PolicySection = POLICY) -> EgressGate:
    return EgressGate(section, SITE, terms(reply).task, FINGERPRINT)
