"""Which answers count. Pure functions: whatever a site sends, it gets a verdict and nothing else happens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict

from fedmedpeft.exchange import Contract, ContractError, PeftState, Scores, VisitReply
from fedmedpeft.exchange import flower as wire
from fedmedpeft.privacy.client_update import length_of
from fedmedpeft.tasks import Task
from server.courier import Answer
from server.errors import safe_reason

WITHHELD = ("val", "test", "loss")
"""What a site's policy may keep back: scores of two splits, and the training loss."""
_ROUNDING = 2.0**-23
"""Of a float32, relative: what a state is moved by at most where every number is rounded to a neighbour."""


class Quarantined(Exception):  # noqa: N818 - it names what happens to the answer
    """This answer is left out; ``str()`` is the reason, short enough for a table."""


@dataclass(frozen=True)
class Expected:
    """What a site's answer must fit.

    Args:
        site: its name, as joined.
        samples: per split, as joined.
        round: the round asked for.
        last: whether only an evaluation was asked for.
        task: knows what counts can be.
        contract: of the PEFT state.
        sent: what it was sent of the tensors that it answers with.
        private: what the site's updates are private per, as joined; empty: they are not.
        tells_loss: whether it says how training went; not where that would be told without noise.
    """

    site: str
    samples: Mapping[str, int]
    round: int
    last: bool
    task: Task
    contract: Contract
    sent: PeftState
    private: str = ""
    tells_loss: bool = True


@dataclass(frozen=True)
class Vetted:
    """An answer that counts. ``state`` is None for an evaluation only.

    ``length`` is the norm of the update; ``withheld`` is what the site keeps back, of :data:`WITHHELD`.
    """

    reply: VisitReply
    scores: dict[str, Scores]
    state: PeftState | None
    length: float = 0.0
    withheld: tuple[str, ...] = ()


def vet_visit(answer: Answer, expected: Expected) -> Vetted:
    """Judge one answer.

    Raises:
        Quarantined: an error, no answer, undecodable or off-contract content, another site's name or round, scores that
            do not add up, something left out that is not named as withheld, or an update that is untrained, not finite
            or of no images.
    """
    if answer.content is None:
        raise Quarantined(answer.failure)
    reply = _decoded(answer.content)
    if reply.site != expected.site:
        raise Quarantined(f"answers as '{safe_reason(reply.site)}', joined as '{expected.site}'")
    if reply.round != expected.round:
        raise Quarantined(f"answers for round {reply.round}, asked for round {expected.round}")
    if not (math.isfinite(reply.seconds) and reply.seconds >= 0):
        raise Quarantined("reports a time that is not a number of seconds")
    _vet_privacy(reply, expected)
    withheld = _vet_withheld(reply)
    wanted = ("val", "test") if expected.last else ("val",)
    missing = [split for split in wanted if split not in reply.before and split not in withheld]
    if missing:
        raise Quarantined(f"sends no scores of {' and '.join(missing)}")
    held = {f"{owner}{split}": expected.samples[split] for owner in ("", "own-") for split in wanted}
    scores = vet_scores(reply.before, expected.task, held)
    if expected.last:
        return Vetted(reply, scores, None, withheld=withheld)
    state = _vet_update(reply, expected, withheld)
    return Vetted(reply, scores, state, _length(state, expected.sent), withheld)


def _vet_withheld(reply: VisitReply) -> tuple[str, ...]:
    """A site may keep back what its policy says; it must say so, and then not send it all the same."""
    withheld = tuple(name.strip() for name in reply.withheld.split(",")) if reply.withheld else ()
    for name in withheld:
        if name not in WITHHELD:
            raise Quarantined(f"withholds '{safe_reason(name)}', not one of {', '.join(WITHHELD)}")
    sent = {*reply.before, *(() if math.isnan(reply.loss) else ("loss",))}
    for name in withheld:
        if name in sent:
            raise Quarantined(f"says that it withholds '{name}', and sends it")
    return withheld


def _vet_privacy(reply: VisitReply, expected: Expected) -> None:
    """A site cannot drop its privacy in the middle of a run, and what it says of its budget goes into tables."""
    if reply.private != expected.private:
        raise Quarantined("trains with another privacy than it joined with")
    if (reply.epsilon is None) != (reply.delta is None):
        raise Quarantined("reports one of epsilon and delta without the other")
    if reply.epsilon is not None and not reply.epsilon >= 0:
        raise Quarantined("reports an epsilon that is not 0 or more")
    if reply.delta is not None and not 0 < reply.delta < 1:
        raise Quarantined("reports a delta that is not between 0 and 1")


def vet_scores(scores: Mapping[str, Scores], task: Task, held: Mapping[str, int]) -> dict[str, Scores]:
    """Scores whose counts add up. Metrics are computed anew from them, but for those that need more than counts.

    Args:
        task: of the run.
        held: samples by what may be scored, as the sites joined with them: nobody can weigh more than it has.

    Raises:
        Quarantined: counts that do not fit the task or the number of samples, or a loss that is not finite.
    """
    vetted = {}
    for split, score in scores.items():
        if split not in held:
            raise Quarantined(f"scores '{safe_reason(split)}', which was not asked for")
        if score.samples != held[split]:
            raise Quarantined(f"scores {score.samples} {task.unit} of '{split}', joined with {held[split]}")
        try:
            task.vet(score.counts, score.samples)
        except ValueError:
            raise Quarantined(f"counts of '{safe_reason(split)}' do not fit {score.samples} samples") from None
        if score.samples and not math.isfinite(score.loss):
            raise Quarantined(f"loss of '{safe_reason(split)}' is not finite")
        vetted[split] = Scores(score.samples, score.loss, _metrics(score, task), score.counts)
    return vetted


def _metrics(score: Scores, task: Task) -> dict[str, float]:
    if not score.samples:
        return {}
    claims = {name: score.metrics.get(name, math.nan) for name in task.claimed}
    return task.metrics_of_counts(score.counts) | {name: value for name, value in claims.items() if 0 <= value <= 1}


def _decoded(content: RecordDict) -> VisitReply:
    try:
        return wire.decode_visit_reply(content)
    except ContractError as error:
        raise Quarantined(safe_reason(str(error))) from None
    except Exception as error:
        # A hostile or broken site chooses these bytes: no way of failing to read them may end the run.
        raise Quarantined(f"cannot be decoded ({type(error).__name__})") from None


def _vet_update(reply: VisitReply, expected: Expected, withheld: tuple[str, ...]) -> PeftState:
    if reply.state is None:
        raise Quarantined("sends no state")
    if reply.steps <= 0:
        raise Quarantined(f"reports {reply.steps} optimiser steps")
    # The number of samples is the site's weight: above 0 when it joined, and it may not change since.
    if reply.samples != expected.samples["train"]:
        raise Quarantined(
            f"reports {reply.samples} training {expected.task.unit}, joined with {expected.samples['train']}"
        )
    # nan says that nothing is told, which most may not do.
    if math.isinf(reply.loss) or (expected.tells_loss and "loss" not in withheld and math.isnan(reply.loss)):
        raise Quarantined("training loss is not finite")
    try:
        return expected.contract.admit(reply.state)
    except ContractError as error:
        raise Quarantined(safe_reason(str(error))) from None


def _length(state: PeftState, sent: PeftState) -> float:
    """Of the update. Raises Quarantined where rounding alone would move a state as far."""
    length = length_of({part: state.vectors[part].astype(np.float64) - vector for part, vector in sent.vectors.items()})
    if length <= _ROUNDING * sent.norm():
        raise Quarantined("sends back the state that it was sent, untrained")
    return length
