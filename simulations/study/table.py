"""The study as a page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from fedmedpeft.config import RunConfig
from fedmedpeft.methods import stays_at_sites
from server.data_words import SYNTHETIC_WARNING
from simulations.study.method_summary import MethodSummary, PartitionSummary, ReferenceSummary
from simulations.study.plan import Plan
from simulations.study.results import RunRow
from simulations.study.statistics import DRAWS, SAME_COST, Interval, Slope

_NONE = "-"


def markdown(plan: Plan, summaries: Sequence[PartitionSummary], rows: Sequence[RunRow]) -> str:
    """``table.md``."""
    lines = [f"# {plan.study.name}", "", *_unfinished(plan, rows), *_setting(plan), ""]
    for summary in summaries:
        lines += [f"## Partition `{summary.partition}`", "", *_table(plan, summary), "", *_findings(plan, summary), ""]
    return "\n".join([*lines, *_failures(rows)]).rstrip() + "\n"


def _unfinished(plan: Plan, rows: Sequence[RunRow]) -> Iterator[str]:
    made, wanted = sum(row.status != "not run" for row in rows), sum(plan.runs.values())
    if made < wanted:
        yield f"**Unfinished: {made} of {wanted} runs were made. All that is said below may change.**\n"


def _setting(plan: Plan) -> Iterator[str]:
    study, (federation, *_) = plan.study, list(plan.federations.values())
    configs = {cell.method: cell.config for cell in plan.first()}
    config, metric = configs[study.methods[0]], _metric(plan)
    if plan.synthetic:
        yield f"**{SYNTHETIC_WARNING}**\n"
    yield (
        f"Data: `{study.run.get('data', config.data)}`, {federation.sites} sites. Backbone: `{config.backbone}`. "
        f"{config.rounds} rounds of {config.local_steps} local steps, batches of {config.batch_size}, "
        f"strategy `{config.strategy}`. Seeds: {', '.join(map(str, study.seeds))}"
        f"{'; the splits vary with the seed' if study.partition_seeds == 'per-seed' else '; one split'}.\n"
    )
    if plan.searches:
        grid = ", ".join(f"{scale:g}" for scale in study.learning_rate_scales)
        yield (
            f"Learning rate: every method was run with its recommended step sizes times each of {grid} "
            f"(seed {study.seeds[0]}), the same number of runs for each. The scale with the best mean validation "
            f"{metric} after the last round was kept for all seeds; test {plan.task.unit} were not looked at for it.\n"
        )
    else:
        yield f"Learning rate: recommended step sizes times {study.learning_rate_scales[0]:g}; no search.\n"
    for method, settings in study.overrides.items():
        changes = ", ".join(f"{key}={value}" for key, value in settings.items())
        yield f"`{method}` differs from the others: {changes}.\n"
    for parts, methods in _kept_at_sites(configs).items():
        yield f"Trained and kept at each site, never exchanged: {parts} of {', '.join(methods)}.\n"
    own = " `personalised`: after a few more steps at each site alone."
    yield (
        f"{metric.capitalize()} is on test {plan.task.unit}: `mean` over sites, each counting once, and the "
        "`worst site`; mean of n seeds ± half of the 95% interval (t distribution). Parameters are those exchanged in "
        "a round, method + head. Bytes are measured: what one site sends in one round."
        + (own if any(config.personalise_steps for config in configs.values()) else "")
    )


def _kept_at_sites(configs: Mapping[str, RunConfig]) -> dict[str, list[str]]:
    """Methods by what they keep: such a figure is not that of one shared model."""
    methods: dict[str, list[str]] = {}
    for method, config in configs.items():
        parts = stays_at_sites(config.method, config.personal_parts)
        if parts:
            methods.setdefault(", ".join(parts), []).append(f"`{method}`")
    return methods


def _table(plan: Plan, summary: PartitionSummary) -> Iterator[str]:
    personalised = any(method.personalised.n for method in summary.methods)
    private = any(str(method.privacy) for method in summary.methods)
    names = ["method", "n", "parameters", "bytes", "mean", "worst site"]
    names += ["personalised"] if personalised else []
    names += ["epsilon"] if private else []
    names += ["s / round", "scale"]
    yield _line(names)
    yield _line(["---", *["---:"] * (len(names) - 1)])
    for method in summary.methods:
        yield _line(_method_cells(plan, method, personalised, private))
    for reference in summary.references.values():
        filler = [_NONE] * (len(names) - 6)
        yield _line([f"*{reference.kind}*", str(reference.mean.n), _NONE, _NONE, *_scores(reference), *filler])


def _method_cells(plan: Plan, method: MethodSummary, personalised: bool, private: bool) -> list[str]:
    size = method.size
    cells = [f"`{method.method}`", str(method.mean.n), f"{size.method_parameters:,} + {size.head_parameters:,}"]
    cells += [_NONE if math.isnan(method.bytes_up) else f"{method.bytes_up:,.0f}", *_scores(method)]
    cells += [_score(method.personalised)] if personalised else []
    cells += [str(method.privacy) or _NONE] if private else []
    cells += [_NONE if math.isnan(method.seconds_per_round) else f"{method.seconds_per_round:.1f}"]
    grid = plan.study.learning_rate_scales
    edge = " (edge)" if len(grid) > 2 and method.scale in (min(grid), max(grid)) else ""
    return [*cells, _NONE if math.isnan(method.scale) else f"{method.scale:g}{edge}"]


def _scores(summary: MethodSummary | ReferenceSummary) -> list[str]:
    if not summary.mean.n:
        return ["failed" if summary.failed else "not run", _NONE]
    failed = f" ({summary.failed} failed)" if summary.failed else ""
    return [_score(summary.mean) + failed, _score(summary.worst)]


def _score(value: Interval) -> str:
    if not value.n:
        return _NONE
    return f"{value.mean:.3f}" + ("" if math.isnan(value.half) else f" ± {value.half:.3f}")


def _findings(plan: Plan, summary: PartitionSummary) -> Iterator[str]:
    front = ", ".join(f"`{method.method}`" for method in summary.front)
    yield f"- On the Pareto front of bytes and mean {_metric(plan)}: {front or 'none'}."
    yield (
        f"- Bytes that differ by up to {SAME_COST:.0%} count as equal for it. Between methods whose intervals overlap, "
        "the front is a matter of chance."
    )
    alone = summary.references.get("local-only")
    if alone and alone.mean.n:
        below = [f"`{method.method}` (by {gap:.3f})" for method, gap in summary.below_local_only()]
        yield f"- Below training alone (local-only): {', '.join(below) or 'none'}."
    if any("(edge)" in _method_cells(plan, method, False, False)[-1] for method in summary.methods):
        yield "- `(edge)`: the best scale is the grid's smallest or largest; a wider grid might find a better one."
    yield f"- {_slope(plan, summary.slope(with_full=True), 'over all methods')}"
    if any(method.has_full_fine_tuning and method.mean.n for method in summary.methods):
        yield f"- {_slope(plan, summary.slope(with_full=False), 'without full fine-tuning')}"
    if summary.references and plan.study.references:
        yield f"- References are trained with `{plan.study.references}`, for as many images as the federation sees."
    if any(str(method.privacy) for method in summary.methods):
        yield "- `epsilon`: the largest of any site and seed, of one run alone. References are trained without privacy."


def _slope(plan: Plan, slope: Slope, over: str) -> str:
    what = f"Points of {_metric(plan)} per tenfold exchanged parameters (method + head), {over} (n = {slope.n})"
    if math.isnan(slope.value):
        return f"{what}: too few methods."
    if math.isnan(slope.low):
        return f"{what}: {slope.value:+.2f}; too few methods for an interval."
    interval = f"95% interval {slope.low:+.2f} to {slope.high:+.2f}, bootstrap over methods, {DRAWS:,} draws"
    return f"{what}: {slope.value:+.2f} ({interval})."


def _metric(plan: Plan) -> str:
    return plan.task.primary.replace("_", " ")


def _failures(rows: Sequence[RunRow]) -> Iterator[str]:
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        yield from ("## Failed runs", "")
        yield from (f"- {row.cell.label}: {row.reason} (`cells/{row.cell.name}/log.txt`)" for row in failed)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
