"""The site's own check of what the server sends, against crafted states, and what is left within its bound."""

from __future__ import annotations

import torch

from clients.inbound import Inbound, moved
from fedmedpeft.exchange import ContractError, PeftState
from simulations.audit.crafted import AdapterBins
from simulations.audit.curious import Row
from simulations.audit.finding import Finding
from simulations.audit.forgery import LOUD, QUIET, Forgery, attacked
from simulations.audit.scene import Scene
from simulations.audit.site_update import Update, norm, visit_change

COLUMNS = (
    "state",
    "distance",
    "bound",
    "round 1",
    "later rounds",
    "tokens read",
    "PSNR (dB)",
    "SSIM",
    "identified",
)


def check_of_crafted(forgery: Forgery) -> Finding:
    """Quiet and loud bins as they are sharpest, and scaled into the bound where they are beyond it."""
    scene = forgery.scene
    inbound = Inbound(scene.run.config.inbound_factor, scene.run.model.initial)
    reach = honest_reach(scene)
    bound = inbound.factor * reach
    rows: list[Row] = []
    for name, lift in (("quiet bins", QUIET), ("loud bins", LOUD)):
        bins = forgery.bins(1, lift)
        rows.append(_verdict(forgery, inbound, reach, name, bins, bins.state()))
        inside = bins.scale_within(scene.learner(), bound)
        if 0 < inside < bins.sharp:
            label = f"{name}, scaled into the bound"
            rows.append(_verdict(forgery, inbound, reach, label, bins, bins.state(inside)))
    return Finding(
        title="The site's check of what the server sends",
        summary=_checked_summary(rows),
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            _bound(inbound.factor, reach),
            "What a state tells is of one gradient of one image, were the state let in.",
            "Several rounds within the bound add up: the check makes an attack slow and visible, and is no proof.",
        ),
    )


def honest_reach(scene: Scene) -> float:
    """How far one honest visit of the site, with all its images, moves the exchanged state."""
    rows = torch.arange(len(scene.run.data.train))
    return norm(visit_change(scene.learner(), scene.run.data.train, rows, scene.run.config, scene.names))


def admitted(inbound: Inbound, state: PeftState, round_: int, reach: float) -> bool:
    """Whether a site that was last sent the initial state lets ``state`` in."""
    try:
        inbound.check(state, round_, {}, lambda: reach)
    except ContractError:
        return False
    return True


def sent_state(scene: Scene, crafted: Update) -> PeftState:
    """The whole exchanged state with the tensors of ``crafted`` in place."""
    learner = scene.learner(crafted)
    return learner.export(learner.manifest(without=scene.run.config.personal_parts))


def _verdict(forgery: Forgery, inbound: Inbound, reach: float, name: str, bins: AdapterBins, crafted: Update) -> Row:
    scene = forgery.scene
    state = sent_state(scene, crafted)
    distance = moved(state, (inbound.initial.only(state.manifest),))
    verdicts = [("admitted" if admitted(inbound, state, round_, reach) else "refused") for round_ in (1, 2)]
    row, _ = attacked(forgery, bins, crafted, 1, "one gradient")
    return (name, distance, inbound.factor * reach, *verdicts, *row[3:7])


def _bound(factor: float, reach: float) -> str:
    if not factor:
        return "The check is off (inbound-factor=0): the site takes any state of the right shape."
    return (
        f"A round may move the state by inbound-factor={factor:g} times what the site's own visit moves it "
        f"({reach:.3g} here); round 1 must be the state that all sites start from."
    )


def _checked_summary(rows: list[Row]) -> str:
    later = [row for row in rows if row[4] == "admitted"]
    tokens = max((int(row[5]) for row in later), default=0)
    told = f"{tokens} tokens of an image" if tokens else "nothing that this attack can use"
    if any(row[3] == "admitted" for row in rows):
        return f"The site's check is off: it lets a state in that tells {told}."
    begin = "In round 1 the site refuses every crafted state"
    if not later:
        return f"{begin}, and in later rounds too."
    return f"{begin}; in later rounds one is near enough to be let in that tells {told}."
