"""What of an answer stays at the site: the scores, counts and losses that its policy keeps back. Pure functions.

The server computes metrics from counts, and takes a site's word only for the few that counts do not give. So scores
leave with their counts or not at all, and whatever counts would give away must be allowed: a list of metrics that lacks
one of these keeps all scores here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from clients.egress.cells import cells
from clients.policy_section import PolicySection
from fedmedpeft.data.decode import PUBLIC_REASONS
from fedmedpeft.exchange import AnswersReply, JoinReply, ReferenceReply, Refusal, Scores, SiteError, VisitReply
from fedmedpeft.tasks import Task

Reply = AnswersReply | JoinReply | VisitReply | ReferenceReply

TEST = "test"
SPLITS, LOSS, OWN = ("val", TEST), "loss", "own-"
"""What a visit may withhold (a reference: test), and the prefix of the scores of what a site trained for itself."""


def withhold(reply: Reply, section: PolicySection, task: Task) -> Reply:
    """``reply`` without what stays here. Withholding twice changes nothing.

    Args:
        reply: of the site worker.
        section: the policy.
        task: of the run, which says what its counts are.

    Raises:
        SiteError: a site with fewer training samples than the smallest count: the server needs their number.
    """
    if isinstance(reply, AnswersReply):
        return replace(reply, counts=_large(reply.counts, section))
    if isinstance(reply, JoinReply):
        return _join(reply, section, task)
    if isinstance(reply, VisitReply):
        return _visit(reply, section, task)
    scores = _scores(reply.scores, section, task)
    return replace(reply, scores=scores, withheld=reply.withheld if TEST in scores else TEST)


def why_never(section: PolicySection, task: Task) -> str | None:
    """Why no scores leave under this policy, whatever they are; None where some may."""
    if section.metrics == "none":
        return "metrics: none"
    if not section.counts:
        return "counts: false, and the server computes metrics from counts alone"
    if cells(task, [0] * counts_length(task)) is None and section.smallest_cell:
        return f"smallest-cell, and nothing says what the counts of task '{task.name}' are of"
    if section.metrics == "all":
        return None
    lacking = [name for name in task.metrics if name not in section.metrics and name not in task.claimed]
    return f"counts also give {', '.join(lacking)}, which policy.metrics does not list" if lacking else None


def counts_length(task: Task) -> int:
    """How many counts a split of any size has; the classes must be known where the task has some."""
    return len(task.ideal_counts([0] * len(task.classes)))


def _join(reply: JoinReply, section: PolicySection, task: Task) -> JoinReply:
    least = section.smallest_count
    refuse_few(reply.samples.get("train", 0), section, task)
    samples = {split: number if number >= least else 0 for split, number in reply.samples.items()}
    known = {reason: number for reason, number in reply.skipped.items() if reason in PUBLIC_REASONS}
    return replace(reply, samples=samples, skipped=_large(known, section))


def refuse_few(training: int, section: PolicySection, task: Task) -> None:
    """Raises SiteError for a site with fewer training samples than the smallest count, and does not say how many."""
    if training < section.smallest_count:
        raise SiteError(
            Refusal.POLICY,
            f"policy: it has fewer training {task.unit} than the smallest number that may be told (smallest-count: "
            f"{section.smallest_count})",
        )


def _visit(reply: VisitReply, section: PolicySection, task: Task) -> VisitReply:
    refuse_few(reply.samples, section, task)
    tellable = _scores(reply.before, section, task)
    names = {name for name in reply.withheld.split(",") if name}
    names |= {split for split in SPLITS if split in reply.before and split not in tellable}
    names |= set() if section.training_loss else {LOSS}
    # What a site trained for itself is scored on the same images.
    before = {key: score for key, score in tellable.items() if key.removeprefix(OWN) not in names}
    loss = math.nan if LOSS in names else reply.loss
    return replace(reply, before=before, loss=loss, withheld=",".join(n for n in (*SPLITS, LOSS) if n in names))


def _scores(scores: Mapping[str, Scores], section: PolicySection, task: Task) -> dict[str, Scores]:
    if why_never(section, task):
        return {}
    return {key: _named(score, section) for key, score in scores.items() if _tells_of_enough(score, section, task)}


def _tells_of_enough(score: Scores, section: PolicySection, task: Task) -> bool:
    if score.samples < section.smallest_count:
        return False
    least = section.smallest_cell
    if not least:
        return True
    groups = cells(task, score.counts)
    return groups is not None and not any(0 < number < least for number in groups)


def _named(score: Scores, section: PolicySection) -> Scores:
    if section.metrics == "all":
        return score
    return replace(score, metrics={name: value for name, value in score.metrics.items() if name in section.metrics})


def _large(counts: Mapping[str, int], section: PolicySection) -> dict[str, int]:
    return {key: number for key, number in counts.items() if number >= section.smallest_count}
