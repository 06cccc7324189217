"""``MODEL_CARD.md``: what the adapter is, what it was measured to do at each site, and what nobody knows."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

from fedmedpeft.adapter_directory import shown
from fedmedpeft.adapter_file import CONFIG_FILE
from fedmedpeft.components import ComponentSpec, parse_spec
from server.data_words import EACH_ITS_OWN, synthetic_sites, synthetic_warning
from server.tables import WITHHELD, score_lines, traffic_lines, withholding

_SHOWN = 30
_OPENING = {
    "federated": "An adapter for a frozen backbone, trained by several sites together; no image left its site.",
    "local-only": "A reference: every site trained alone. There is no adapter.",
    "pooled": "A reference: trained on the data of all sites in one place. There is no adapter.",
}


def model_card(run: str, summary: dict[str, Any], fingerprint: str) -> str:
    """The card as Markdown. ``summary`` is that of :func:`server.summary.summarise`."""
    warning = synthetic_warning(list(summary["sites"]), synthetic_sites(summary))
    sections = [
        f"# {run}",
        f"> **{warning}**" if warning else "",
        _OPENING[summary["mode"]],
        _facts(summary, fingerprint),
        "## Results",
        "```\n" + "\n".join(score_lines(summary)) + "\n```",
        _comparison(summary),
        "## Data",
        _data(summary),
        "## Cost",
        "\n".join(traffic_lines(summary)),
        "## Limits",
        _limits(summary),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(summary: dict[str, Any], fingerprint: str) -> str:
    personal = ", ".join(summary["personal"]) or "nothing"
    exchanged, per_round = summary["exchanged_parameters"], summary["exchanged_per_round"]
    in_turn = f", {per_round:,} of them in a round" if per_round < exchanged else ""
    rows = {
        "Backbone": f"{shown(summary['backbone'])}, fingerprint `{fingerprint}`",
        "Task": f"`{_public(summary['task'])}`",
        "Method": f"`{summary['method']}`, {exchanged:,} exchanged parameters{in_turn}",
        "Kept at the sites": personal,
        "Classes": _some(summary["classes"]),
        **({"Knowledge": f"`{_public(summary['knowledge'])}`"} if summary["knowledge"] else {}),
        "Training": f"{summary['rounds']} rounds of {summary['local_steps']} local steps, `{summary['strategy']}`",
        "Sites": str(len(summary["sites"])),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows.items())])


def _comparison(summary: dict[str, Any]) -> str:
    if not summary["gains"]:
        return "No comparison with training alone was made in this run."
    text = "Against training alone for as many steps, " + _gains(summary["gains"])
    if summary["personalised_gains"]:
        steps = summary["personalise_steps"]
        text += (
            f"\n\nEach site then took {steps} more steps alone and kept the result, which is not in the adapter: "
            + _gains(summary["personalised_gains"])
        )
    return text


def _gains(gains: dict[str, float]) -> str:
    known = {site: gain for site, gain in gains.items() if math.isfinite(gain)}
    if not known:
        return "no site has a test split to compare on."
    lost = [f"{site} ({gain:+.3f})" for site, gain in known.items() if gain < 0]
    text = f"{sum(gain > 0 for gain in known.values())} of {len(known)} sites gain."
    return f"{text} Sites that lose by taking part: {', '.join(lost)}." if lost else f"{text} None loses."


def _data(summary: dict[str, Any]) -> str:
    lines = [_source(summary), ""]
    lines += ["| site | train | val | test | left out |", "|---|---|---|---|---|"]
    for site, samples in summary["sites"].items():
        silent = {split for split in ("val", "test") if site in withholding(summary, split)}
        numbers = {split: samples.get(split, 0) for split in ("train", "val", "test")}
        counts = " | ".join(WITHHELD if split in silent and not n else str(n) for split, n in numbers.items())
        skipped = "; ".join(f"{count} {reason}" for reason, count in summary["skipped"].get(site, {}).items())
        lines.append(f"| {_cell(site)} | {counts} | {_cell(skipped) or 'none'} |")
    lines += [f"\n{site} took no part: {reason}." for site, reason in summary["left_out"].items()]
    return "\n".join(lines)


def _source(summary: dict[str, Any]) -> str:
    if summary["data"] == EACH_ITS_OWN:
        return "Each site trained on data of its own. What the server knows of it is what the sites tell:"
    return f"Source `{_public(summary['data'])}`, partition `{_public(summary['partition'])}`."


def _limits(summary: dict[str, Any]) -> str:
    points = [
        f"Each figure comes from one run with one seed and from the sites' own test {summary['unit']}.",
        "Test images come from the same sites as the training images: nothing is known of other hospitals or devices.",
        *_privacy(summary),
        "This is not a medical device. Nothing here was validated for clinical use.",
    ]
    if synthetic := synthetic_sites(summary):
        which = "All images" if len(synthetic) == len(summary["sites"]) else f"All images of {_some(synthetic)}"
        points.insert(0, f"{which} were generated by a program. The figures compare methods and nothing else.")
    if summary["personal"]:
        points.append(f"The adapter lacks {', '.join(summary['personal'])}: these parts stayed at the sites.")
    return "\n".join(f"- {point}" for point in points)


def _privacy(summary: dict[str, Any]) -> list[str]:
    """What privacy bounds, and what not. The sentences about sites with privacy stand below the results."""
    points, of_sites = [], summary["client_privacy"]
    if summary["privacy"]:
        points.append(
            "Differential privacy bounds what the updates of the sites named above say of their training data. It does "
            "not cover scores on validation and test data, nor how many samples a site has."
        )
    if of_sites:
        losses = "" if of_sites["noise_at"] == "site" else " and training losses, which the server has in the clear"
        points.append(
            "The noise of client-privacy bounds what the global states say of any one site. It does not cover how many "
            f"samples a site has, scores on validation and test data{losses}."
        )
    return points or [
        "The updates that sites sent carry information about their images. No differential privacy was applied."
    ]


def _some(names: list[str]) -> str:
    """Names for a table; of very many the first few."""
    if len(names) <= _SHOWN:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more, which adapter/{CONFIG_FILE} lists"


def _public(component: str) -> str:
    """A component as configured, without the folders of any path: a card travels further than a machine's layout."""
    spec = parse_spec(component)
    options = {k: PurePath(v).name if isinstance(v, str) and "/" in v else v for k, v in spec.options.items()}
    return str(ComponentSpec(spec.name, options))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
