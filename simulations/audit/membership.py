"""Was this image in the training? Asked of adapters as the site would release them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from simulations.audit.audited import AuditRun
from simulations.audit.contribution import contribute, losses, plain_trainer, private_trainer
from simulations.audit.finding import Finding
from simulations.audit.lira import Members, Scores, Variant, logit_confidence, membership_scores
from simulations.audit.roc import auc, hits_at, most_hits
from simulations.audit.roc_figure import draw_roc
from simulations.audit.rows import take
from simulations.study.statistics import Interval, interval

SHADOWS = {"quick": 16, "full": 64}
SLOW_SHADOWS = {"quick": 4, "full": 64}
"""Models of each kind of training; the second where each step needs the backbone, since no features can be kept."""
FALSE_ALARMS = (0.01, 0.001)
_ATTACKS: dict[str, Variant] = {"LiRA, online": "online", "LiRA, offline": "offline", "loss threshold": "loss"}
_FEWEST = 8
"""Units, below which halves of a site are no training sets."""


@dataclass(frozen=True)
class Attack:
    """One attack on all targets of one kind of training.

    Attributes:
        training: how the targets were trained. name: of the attack.
        auc: over targets; 0.5 is guessing.
        hits: members found at each of ``FALSE_ALARMS``, all targets together; ``nan`` where there are too few units.
        scores, members: [K, U].
    """

    training: str
    name: str
    auc: Interval
    hits: tuple[float, ...]
    scores: Scores
    members: Members


def audit_membership(run: AuditRun) -> list[Finding]:
    """Train shadow models without privacy and with it, and attack each by the others."""
    count = run.units.count
    if count < _FEWEST:
        return [_too_few(count)]
    members = draw_members(_models(run), count, run.seed)
    attacks = [attack for private in trainings(run) for attack in _attacks(run, private, members)]
    best = [max((a for a in attacks if a.training == t), key=lambda a: a.auc.mean) for t in _in_order(attacks)]
    figure = draw_roc([(a.training, a.name, a.scores.ravel(), a.members.ravel()) for a in best])
    rows = tuple(_row(run, attack) for attack in attacks)
    return [
        Finding(
            title="Membership: was this image in the training?",
            summary=_summary(run, best),
            columns=(
                "training",
                "attack",
                "AUC (0.5 = guessing)",
                "± (95 %)",
                *(f"found at {100 * rate:g} % false alarms" for rate in FALSE_ALARMS),
                f"most possible at {100 * FALSE_ALARMS[0]:g} %",
            ),
            rows=rows,
            figures=(figure,),
            notes=_notes(run, len(members)),
        )
    ]


def _models(run: AuditRun) -> int:
    return run.shadows or (SHADOWS if run.model.learner.keeps_features else SLOW_SHADOWS)[run.effort]


def trainings(run: AuditRun) -> list[bool]:
    """Without privacy, and with it where the run says how."""
    return [False, True] if run.privacy else [False]


def draw_members(models: int, units: int, seed: int) -> Members:
    """For each model a random half of the units, bool [K, U], drawn apart from the others'."""
    generator = np.random.default_rng([seed, models])
    members = np.zeros((models, units), dtype=np.bool_)
    for row in members:
        row[generator.permutation(units)[: units // 2]] = True
    return members


def _attacks(run: AuditRun, private: bool, members: Members) -> Iterator[Attack]:
    name = training_name(run, private)
    confidence = _confidences(run, private, members, name)
    for attack, variant in _ATTACKS.items():
        scores = membership_scores(confidence, members, variant)
        each = interval([auc(*pair) for pair in zip(scores, members, strict=True)])
        hits = tuple(hits_at(scores.ravel(), members.ravel(), rate) for rate in FALSE_ALARMS)
        yield Attack(name, attack, each, hits, scores, members)


def training_name(run: AuditRun, private: bool) -> str:
    """As tables call it."""
    return f"private, epsilon {run.privacy.epsilon:.3g}" if private and run.privacy else "not private"


def _confidences(run: AuditRun, private: bool, members: Members, name: str) -> Scores:
    """[K, U]: what each released model makes of each unit, the mean over the unit's rows."""
    split, units = run.data.train, run.units
    of_row = units.of_row.numpy()
    rows_of = np.bincount(of_row, minlength=units.count)
    found = np.zeros(members.shape)
    for index, chosen in enumerate(members):
        if index % (len(members) // 4) == 0:
            run.say(f"membership, {name}: {index} of {len(members)} models trained")
        trainer = private_trainer(run) if private else plain_trainer(run)
        half = take(split, torch.from_numpy(np.flatnonzero(chosen[of_row])))
        state = contribute(run, trainer, half, seed=run.seed + 1 + index)
        confidence = logit_confidence(losses(run, state, split))
        found[index] = np.bincount(of_row, weights=confidence, minlength=units.count) / rows_of
    return found


def _in_order(attacks: list[Attack]) -> list[str]:
    return list(dict.fromkeys(attack.training for attack in attacks))


def _row(run: AuditRun, attack: Attack) -> tuple[str | float, ...]:
    limit = 1.0
    if run.privacy and attack.training == training_name(run, True):
        limit = most_hits(FALSE_ALARMS[0], run.privacy.epsilon, run.privacy.delta)
    return (attack.training, attack.name, attack.auc.mean, attack.auc.half, *attack.hits, limit)


def _summary(run: AuditRun, best: list[Attack]) -> str:
    unit = "image" if run.units.kind == "record" else run.units.kind
    told = [f"{100 * attack.auc.mean:.0f} of 100 ({attack.training})" for attack in best]
    return (
        f"Shown one {unit} that the site trained on and one that it did not, the best attack on what the site would "
        f"send names the right one in {' and in '.join(told)} cases; 50 is guessing."
    )


def _notes(run: AuditRun, models: int) -> tuple[str, ...]:
    config, personal = run.config, run.config.personal_parts
    notes = [
        f"{models} models for each kind of training, each on a random half of the site's {run.units.count} units "
        f"({run.units.kind}s) for {config.total_steps} steps. Each is the target once; the others are its shadows.",
        "The attacker has the exchanged state of this site alone. In a federation it is averaged with those of other "
        "sites, which hides some; the server, however, sees this one.",
        "The interval is over targets, which share their shadows. A dash: too few units for so few false alarms.",
        "Other data than this site's would make better shadows than halves of it have, or worse: an attack that fails "
        "here proves nothing.",
    ]
    if personal:
        notes.append(f"What stays at the site ({', '.join(personal)}) was trained, and is unknown to the attacker.")
    return tuple(notes)


def _too_few(count: int) -> Finding:
    return Finding(
        "Membership: was this image in the training?",
        f"Not attacked: the site has {count} units, and halves of it teach no shadow model anything.",
        (),
        (),
    )
