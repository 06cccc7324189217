"""What canaries say about epsilon, for the page."""

from __future__ import annotations

import math

from simulations.audit.audited import AuditRun
from simulations.audit.canaries import Shown, attack_released, audited_delta, plant
from simulations.audit.finding import Finding
from simulations.audit.gradient_canaries import Observed, attack_updates
from simulations.audit.lower_bound import CONFIDENCE
from simulations.audit.membership import training_name, trainings

_COLUMNS = (
    "attacker sees",
    "training",
    "canaries",
    "guesses",
    "right",
    "epsilon is at least",
    "accountant: at most",
    "most it could show",
    "verdict",
)


def audit_canaries(run: AuditRun) -> list[Finding]:
    """Lower bounds on epsilon beside the accountant's upper bound, and whether noise and clipping are as promised."""
    rows: list[tuple[str | float | int, ...]] = []
    bounds: list[Shown] = []
    notes = _notes(run)
    planted = plant(run)
    for private in trainings(run) if planted else ():
        assert planted is not None
        shown = attack_released(run, planted, private)
        bounds.append(shown)
        rows.append(_row("the released adapter", training_name(run, private), shown))
    if planted is None:
        notes.append("No mislabelled images: the site has too few units, or one label only.")
    findings = []
    if run.privacy:
        observed = attack_updates(run)
        bounds.append(observed.shown)
        rows.append(_row("every noised step", training_name(run, True), observed.shown))
        findings.append(_mechanism(observed))
    summary = _summary(run, bounds)
    canaries = Finding(
        title="Canaries: how much does it leak at least?",
        summary=summary,
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=tuple(notes),
        broken=any(broken(shown) for shown in bounds),
    )
    return [canaries, *findings]


def broken(shown: Shown) -> bool:
    """Whether the attack found more than the accountant allows."""
    return shown.bound.epsilon > shown.upper


def _row(sees: str, training: str, shown: Shown) -> tuple[str | float | int, ...]:
    found = shown.bound
    verdict = "no promise made" if math.isinf(shown.upper) else "BROKEN" if broken(shown) else "not broken"
    return (
        sees,
        training,
        found.canaries,
        found.guesses,
        found.correct,
        found.epsilon,
        shown.upper,
        found.ceiling,
        verdict,
    )


def _summary(run: AuditRun, bounds: list[Shown]) -> str:
    if any(broken(shown) for shown in bounds):
        return (
            "BROKEN: an attack learned more than the promised epsilon allows anyone to learn. Do not use this training "
            "for patients' data before the reason is found."
        )
    private = [shown for shown in bounds if not math.isinf(shown.upper)]
    if not private:
        return "Nothing is promised without privacy; the table shows how much an attacker learns about planted images."
    best = max(shown.bound.epsilon for shown in private)
    return (
        f"The strongest attack shows that epsilon is at least {best:.2f}; the accountant promises at most "
        f"{private[0].upper:.2f} (both at delta {audited_delta(run.privacy):.2g}: the smaller delta, the larger "
        "epsilon). The truth lies between: nothing here contradicts the promise."
    )


def _mechanism(observed: Observed) -> Finding:
    summary = "Noise and clipping of the private training measure as they should."
    if not observed.sound:
        summary = "BROKEN: noise or clipping of the private training is not what its epsilon was computed from."
    noise, part = observed.noise >= observed.least_noise, observed.part <= observed.most_part
    return Finding(
        "Noise and clipping, measured",
        summary,
        ("what", "measured / promised", "sound where", "verdict"),
        (
            ("noise, on canaries that were out", observed.noise, f"≥ {observed.least_noise:.2f}", _verdict(noise)),
            ("what one canary adds to a step", observed.part, f"≤ {observed.most_part:.2f}", _verdict(part)),
        ),
        notes=("The limits are such that a sound training crosses one of them once in half a million audits.",),
        broken=not observed.sound,
    )


def _verdict(sound: bool) -> str:
    return "sound" if sound else "BROKEN"


def _notes(run: AuditRun) -> list[str]:
    notes = [
        f"Bounds hold with {100 * CONFIDENCE:.0f} % confidence, for delta = {audited_delta(run.privacy):.2g} on both "
        "sides (the run's own, where that is smaller: a larger one would let this method show less).",
        "Each canary was in by a fair coin of the operating system: one training shows a bound (Steinke, Nasr, "
        "Jagielski, NeurIPS 2023, Theorem 5.2). 'Most it could show' is the bound had every guess been right: a larger "
        "epsilon cannot be refuted here.",
        "A low bound is no proof of privacy: another attack may find more.",
    ]
    if run.privacy:
        notes.append(
            "'Every noised step': canaries with a gradient of their own pass through the site's own training code, and "
            "the attacker sees what comes out of each step, before the optimiser. Nobody outside a site sees so much. "
            "Of the model the head alone trains there: sampling, clipping and noise are the same for all methods."
        )
    return notes
