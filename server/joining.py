"""Before the first round: who is there, and do all agree? Sites that differ are left out, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedmedpeft.backbones import BackboneRecord, load_record
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Contract, ContractError, JoinReply, JoinRequest, Manifest, PeftState
from fedmedpeft.exchange import flower as wire
from fedmedpeft.learner import learner_skeleton
from server.courier import Answer, Courier
from server.errors import FederationError, safe_reason

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
class Federation:
    """What all its sites agree on.

    Args:
        sites: by name.
        refused: reason by the name (or node) of each site left out.
        classes: in the order of their indices.
        synthetic: whether any site's images are procedural.
        fingerprint: of the backbone.
        backbone: its record.
        contract: of the exchanged PEFT state.
        state_hash: of the initial state.
        full_nbytes: size of all parameters, as full fine-tuning would exchange them.
    """

    sites: tuple[Site, ...]
    refused: dict[str, str]
    classes: tuple[str, ...]
    synthetic: bool
    fingerprint: str
    backbone: BackboneRecord
    contract: Contract
    state_hash: str
    full_nbytes: int


def join(courier: Courier, config: RunConfig, run: str, nodes: Sequence[int]) -> tuple[Federation, PeftState | None]:
    """Ask every node to introduce itself; check, and fetch the initial state (federated runs only).

    Raises:
        ConfigError: the configured backbone or method cannot be used.
        FederationError: too few sites agree.
    """
    backbone = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    federated = config.mode == "federated"
    asked = {flag: JoinRequest(run, flag) for flag in (False, True)}
    answers = courier.ask("join", wire.JOIN, {node: asked[federated and node == nodes[0]] for node in nodes})
    replies, refused = read_replies(answers)
    federation = agree(replies, config, backbone, refused)
    courier.names.update({site.node: site.name for site in federation.sites})
    if not federated:
        return federation, None
    return fetch_initial_state(courier, federation, replies, asked[True])


def read_replies(answers: Mapping[int, Answer]) -> tuple[dict[int, JoinReply], dict[str, str]]:
    """Decode introductions; the second part is why a node has none, by its name or node."""
    replies: dict[int, JoinReply] = {}
    refused: dict[str, str] = {}
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
            refused[f"node {node}"] = safe_reason(str(error))
        except Exception as error:
            # A broken site chooses these bytes: no way of failing to read them may end the run.
            refused[f"node {node}"] = f"its introduction cannot be decoded ({type(error).__name__})"
    return replies, refused


def agree(
    replies: Mapping[int, JoinReply], config: RunConfig, backbone: BackboneRecord, refused: Mapping[str, str]
) -> Federation:
    """Keep the sites that agree on classes, manifest, backbone and initial state.

    Raises:
        FederationError: as many sites for one thing as for another, or fewer than ``min-sites`` left.
    """
    circle = _Circle(dict(replies), dict(refused))
    _require(circle, config)
    circle.keep(lambda reply: reply.classes, circle.most(lambda reply: reply.classes, "the classes"), "its classes")
    names = tuple(next(iter(circle.replies.values())).classes.split("\n"))
    if len(set(names)) != len(names) or not all(names):
        raise FederationError(f"The sites' classes {names} hold an empty or a repeated name.")
    manifest = exchanged_manifest(config, backbone, names)
    circle.keep(lambda reply: reply.manifest_hash, manifest.hash, "the manifest of its PEFT state")
    _require(circle, config)
    fingerprint = config.backbone_fingerprint or circle.most(lambda r: r.fingerprint, "the backbone's fingerprint")
    circle.keep(lambda reply: reply.fingerprint, fingerprint, "its backbone's fingerprint")
    _require(circle, config)
    state_hash = circle.most(lambda reply: reply.state_hash, "the initial PEFT state")
    circle.keep(lambda reply: reply.state_hash, state_hash, "its initial PEFT state")
    _require(circle, config)
    sites = (Site(node, r.site, dict(r.samples), dict(r.skipped)) for node, r in circle.replies.items())
    return Federation(
        sites=tuple(sorted(sites, key=lambda site: site.name)),
        refused=circle.refused,
        classes=names,
        synthetic=any(reply.synthetic for reply in circle.replies.values()),
        fingerprint=fingerprint,
        backbone=backbone,
        contract=Contract(manifest, config.max_norm),
        state_hash=state_hash,
        full_nbytes=learner_skeleton(backbone, "full", names).manifest().nbytes,
    )


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
) -> tuple[Federation, PeftState]:
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
                    return federation, state
        except ContractError:
            continue
    raise FederationError("No site could give the initial PEFT state that all of them vouch for; see the sites' logs.")


class _Circle:
    """Sites that still agree, and why the others do not."""

    def __init__(self, replies: dict[int, JoinReply], refused: dict[str, str]) -> None:
        self.replies = replies
        self.refused = refused

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
                self.refused[reply.site] = safe_reason(f"{what} differs from the federation's ({shown or 'none'}...)")
                del self.replies[node]


def _require(circle: _Circle, config: RunConfig) -> None:
    needed = config.min_sites if config.mode == "federated" else 1
    if len(circle.replies) < needed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(circle.refused.items()))
        raise FederationError(f"{len(circle.replies)} sites can take part, {needed} are needed. Left out: {reasons}.")
