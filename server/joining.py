"""Before the first round: who is there, and do all agree? Sites that differ are left out, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedmedpeft.backbones import BackboneRecord, load_record
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Contract, ContractError, JoinReply, JoinRequest, Manifest, PeftState
from fedmedpeft.exchange import flower as wire
from fedmedpeft.learner import learner_skeleton
from server.courier import Answer, Courier
from server.errors import FederationError, safe_reason

SPLITS = ("train", "val", "test")
# Names end up in tables and file names.
_SITE_NAME = re.compile(r"\w[\w .:-]{0,63}")


@dataclass(frozen=True)
class Site:
    """A site that takes part."""

    node: int
    name: str
    samples: Mapping[str, int]
    skipped: Mapping[str, int]


@dataclass(frozen=True)
class LeftOut:
    """A node that takes no part, by its site's name where it gave one."""

    node: int
    name: str
    reason: str


@dataclass(frozen=True)
class Federation:
    """What all its sites agree on.

    Args:
        sites: by name.
        left_out: who takes no part, and why.
        classes: in the order of their indices.
        synthetic: whether any site's images are procedural.
        fingerprint: of the backbone.
        backbone: its record.
        contract: of the exchanged PEFT state.
        state_hash: of the initial state.
        full_nbytes: size of all parameters, as full fine-tuning would exchange them.
    """

    sites: tuple[Site, ...]
    left_out: tuple[LeftOut, ...]
    classes: tuple[str, ...]
    synthetic: bool
    fingerprint: str
    backbone: BackboneRecord
    contract: Contract
    state_hash: str
    full_nbytes: int


@dataclass(frozen=True)
class Joined:
    """Initial global state (None where nothing is federated), and the raw answers by node, for their byte counts."""

    federation: Federation
    state: PeftState | None
    answers: Mapping[int, Answer]


def join(courier: Courier, config: RunConfig, run: str, nodes: Sequence[int]) -> Joined:
    """Ask every node to introduce itself; check, and fetch the initial state (federated runs only).

    Raises:
        ConfigError: the configured backbone or method cannot be used.
        FederationError: too few sites agree.
    """
    backbone = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    federated = config.mode == "federated"
    asked = {flag: JoinRequest(run, flag) for flag in (False, True)}
    answers = courier.ask("join", wire.JOIN, {node: asked[federated and node == nodes[0]] for node in nodes})
    replies, left_out = read_replies(answers)
    federation = agree(replies, config, backbone, left_out)
    courier.names.update({site.node: site.name for site in federation.sites})
    state = fetch_initial_state(courier, federation, replies, asked[True]) if federated else None
    return Joined(federation, state, answers)


def read_replies(answers: Mapping[int, Answer]) -> tuple[dict[int, JoinReply], list[LeftOut]]:
    """Decode introductions; the second part says who has no valid one."""
    replies: dict[int, JoinReply] = {}
    left_out: list[LeftOut] = []
    for node in sorted(answers):
        answer = answers[node]
        try:
            if answer.content is None:
                raise ContractError(answer.failure)
            reply = wire.decode_join_reply(answer.content)
            if not _SITE_NAME.fullmatch(reply.site):
                raise ContractError("its name is not 1 to 64 letters, digits, spaces or any of . : _ -")
            if reply.site in {known.site for known in replies.values()}:
                raise ContractError(f"the name '{reply.site}' is taken by another site")
            if reply.samples.get("train", 0) <= 0:
                raise ContractError("it has no training images")
            replies[node] = reply
        except ContractError as error:
            left_out.append(LeftOut(node, f"node {node}", safe_reason(str(error))))
        except Exception as error:
            # A broken site chooses these bytes: no way of failing to read them may end the run.
            reason = f"its introduction cannot be decoded ({type(error).__name__})"
            left_out.append(LeftOut(node, f"node {node}", reason))
    return replies, left_out


def agree(
    replies: Mapping[int, JoinReply], config: RunConfig, backbone: BackboneRecord, left_out: Sequence[LeftOut]
) -> Federation:
    """Keep the sites that agree on classes, manifest, backbone and initial state.

    Raises:
        FederationError: as many sites for one thing as for another, or fewer than ``min-sites`` left.
    """
    circle = _Circle(dict(replies), list(left_out))
    _require(circle, config)
    circle.keep(lambda reply: reply.classes, circle.most(lambda reply: reply.classes, "the classes"), "its classes")
    names = tuple(next(iter(circle.replies.values())).classes.split("\n"))
    if len(set(names)) != len(names) or not all(name.isprintable() and name for name in names):
        raise FederationError(f"The sites' classes {names} hold an empty, a repeated or an unprintable name.")
    manifest = exchanged_manifest(config, backbone, names)
    circle.keep(lambda reply: reply.manifest_hash, manifest.hash, "the manifest of its PEFT state")
    _require(circle, config)
    fingerprint = config.backbone_fingerprint or circle.most(lambda r: r.fingerprint, "the backbone's fingerprint")
    circle.keep(lambda reply: reply.fingerprint, fingerprint, "its backbone's fingerprint")
    _require(circle, config)
    state_hash = circle.most(lambda reply: reply.state_hash, "the initial PEFT state")
    circle.keep(lambda reply: reply.state_hash, state_hash, "its initial PEFT state")
    _require(circle, config)
    sites = (_site(node, reply) for node, reply in circle.replies.items())
    return Federation(
        sites=tuple(sorted(sites, key=lambda site: site.name)),
        left_out=tuple(sorted(circle.left_out, key=lambda left: left.name)),
        classes=names,
        synthetic=any(reply.synthetic for reply in circle.replies.values()),
        fingerprint=fingerprint,
        backbone=backbone,
        contract=Contract(manifest, config.max_norm),
        state_hash=state_hash,
        full_nbytes=learner_skeleton(backbone, "full", names).manifest().nbytes,
    )


def _site(node: int, reply: JoinReply) -> Site:
    samples = {split: reply.samples.get(split, 0) for split in SPLITS}
    return Site(node, reply.site, samples, {safe_reason(why): number for why, number in reply.skipped.items()})


def exchanged_manifest(config: RunConfig, backbone: BackboneRecord, classes: Sequence[str]) -> Manifest:
    """Names and shapes of what travels, from the configuration alone.

    Raises:
        ConfigError: an unknown method or option, or nothing is left to exchange.
    """
    manifest = learner_skeleton(backbone, config.method, classes).manifest(without=config.personal_parts)
    if not manifest.tensors:
        raise ConfigError(f"personal='{config.personal}' leaves nothing to exchange with method='{config.method}'.")
    return manifest


def fetch_initial_state(
    courier: Courier, federation: Federation, replies: Mapping[int, JoinReply], request: JoinRequest
) -> PeftState:
    """The initial state that all sites vouch for, from the first site whose state has the agreed hash.

    Raises:
        FederationError: no site could give it.
    """
    for site in federation.sites:
        reply = replies[site.node]
        if reply.state is None:
            again, _ = read_replies(courier.ask("join", wire.JOIN, {site.node: request}))
            reply = again.get(site.node, reply)
        try:
            if reply.state is not None:
                state = federation.contract.admit(reply.state)
                if state.hash() == federation.state_hash:
                    return state
        except ContractError:
            continue
    raise FederationError("No site could give the initial PEFT state that all of them vouch for; see the sites' logs.")


class _Circle:
    """Sites that still agree, and why the others do not."""

    def __init__(self, replies: dict[int, JoinReply], left_out: list[LeftOut]) -> None:
        self.replies = replies
        self.left_out = left_out

    def most(self, key: Callable[[JoinReply], str], what: str) -> str:
        """The value that most sites have. Raises FederationError for a tie."""
        ranking = Counter(key(reply) for reply in self.replies.values()).most_common(2)
        if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
            sides = " and ".join(
                ", ".join(sorted(r.site for r in self.replies.values() if key(r) == value)) for value, _ in ranking
            )
            raise FederationError(f"The sites disagree about {what}, with no majority: {sides}. Give all the same.")
        return ranking[0][0]

    def keep(self, key: Callable[[JoinReply], str], value: str, what: str) -> None:
        """Leave out sites with another value."""
        for node, reply in list(self.replies.items()):
            if key(reply) != value:
                shown = key(reply)[:12].replace("\n", ", ")
                reason = safe_reason(f"{what} differs from the federation's ({shown or 'none'}...)")
                self.left_out.append(LeftOut(node, reply.site, reason))
                del self.replies[node]


def _require(circle: _Circle, config: RunConfig) -> None:
    needed = config.min_sites if config.mode == "federated" else 1
    if len(circle.replies) < needed:
        reasons = "; ".join(f"{left.name}: {left.reason}" for left in circle.left_out)
        raise FederationError(f"{len(circle.replies)} sites can take part, {needed} are needed. Left out: {reasons}.")
