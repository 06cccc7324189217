"""Do all who introduced themselves agree? Sites that differ are left out, with the reason. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedmedpeft.backbones import BackboneRecord
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Contract, JoinReply, Manifest
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.methods import Rotation
from fedmedpeft.privacy.options import all_private
from fedmedpeft.tasks import Task, build_task
from fedmedpeft.training.private_refusal import PrivacyError, refuse_private
from server.errors import FederationError, safe_reason

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Site:
    """A site that takes part.

    Args:
        node: Flower's.
        name: of the site.
        samples: per split.
        skipped: left out of them, by public reason.
        synthetic: whether its images are procedural.
        private: what its updates are differentially private per; empty: they are not.
        partition_hash: of the partition that gave it its images; empty where it has only its own.
    """

    node: int
    name: str
    samples: Mapping[str, int]
    skipped: Mapping[str, int]
    synthetic: bool
    private: str = ""
    partition_hash: str = ""


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
        task: over the run's classes.
        fingerprint: of the backbone.
        backbone: its record.
        contract: of the exchanged PEFT state.
        rotation: what of it takes turns; falsy where every round exchanges all of it.
        state_hash: of the initial state.
        partition_hash: of the partition that most sites made; empty where any site has only its own data.
        shares_images: whether any site tests on images that it trains on.
    """

    sites: tuple[Site, ...]
    left_out: tuple[LeftOut, ...]
    task: Task
    fingerprint: str
    backbone: BackboneRecord
    contract: Contract
    rotation: Rotation
    state_hash: str
    partition_hash: str
    shares_images: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of their indices."""
        return self.task.classes

    @property
    def synthetic_sites(self) -> tuple[str, ...]:
        """Sites whose images are procedural."""
        return tuple(site.name for site in self.sites if site.synthetic)

    @property
    def full_nbytes(self) -> int:
        """Size of all parameters, as full fine-tuning would exchange them."""
        return learner_skeleton(self.backbone, "full", self.classes, str(self.task.spec)).manifest().nbytes


def agree(
    replies: Mapping[int, JoinReply],
    config: RunConfig,
    backbone: BackboneRecord,
    left_out: Sequence[LeftOut],
    agreed: tuple[str, ...] | None = None,
) -> Federation:
    """Keep the sites that agree on classes, manifest, backbone and initial state.

    Args:
        replies: introductions by node.
        config: of the run.
        backbone: its record.
        left_out: who is out already.
        agreed: the classes, where they were agreed on before and sent to the sites.

    Raises:
        FederationError: as many sites for one thing as for another, or fewer than ``min-sites`` left.
    """
    circle = _Circle(dict(replies), list(left_out), config.min_sites if config.mode == "federated" else 1)
    task = _task(circle, config, agreed)
    manifest, rotation = exchanged(config, backbone, task.classes)
    circle.keep(lambda reply: reply.manifest_hash, manifest.hash, "manifest of its PEFT state")
    fingerprint = config.backbone_fingerprint or circle.most(lambda r: r.fingerprint, "the backbone's fingerprint")
    circle.keep(lambda reply: reply.fingerprint, fingerprint, "fingerprint of its backbone")
    state_hash = circle.most(lambda reply: reply.state_hash, "the initial PEFT state")
    circle.keep(lambda reply: reply.state_hash, state_hash, "initial PEFT state")
    return Federation(
        sites=circle.sites(),
        left_out=tuple(sorted(circle.left_out, key=lambda left: left.name)),
        task=task,
        fingerprint=fingerprint,
        backbone=backbone,
        contract=Contract(manifest, config.max_norm),
        rotation=rotation,
        state_hash=state_hash,
        partition_hash=circle.partition_hash(),
        shares_images=any(reply.shares_images for reply in circle.replies.values()),
    )


def _task(circle: _Circle, config: RunConfig, agreed: tuple[str, ...] | None) -> Task:
    """The task over the classes that were agreed on, or that most sites' data has."""
    # Classes that were sent need no majority: a site that refused them did not introduce itself.
    circle.keep(lambda reply: reply.classes, circle.most(lambda reply: reply.classes, "the classes"), "list of classes")
    if agreed is not None:
        return build_task(config.task, agreed)
    task = build_task(config.task)
    names = tuple(next(iter(circle.replies.values())).classes.split("\n"))
    if task.classes_from == "data" and (len(set(names)) != len(names) or not all(n.isprintable() and n for n in names)):
        raise FederationError(f"The sites' classes {names} hold an empty, a repeated or an unprintable name.")
    return task.of_data(names)


def _site(node: int, reply: JoinReply) -> Site:
    samples = {split: reply.samples.get(split, 0) for split in SPLITS}
    return Site(node, reply.site, samples, reply.skipped, reply.synthetic, reply.private, reply.partition_hash)


def exchanged(config: RunConfig, backbone: BackboneRecord, classes: Sequence[str]) -> tuple[Manifest, Rotation]:
    """Names and shapes of what travels, and what of it takes turns, from the configuration alone.

    Raises:
        ConfigError: an unknown method or option, nothing is left to exchange, or something cannot be trained with the
            privacy that every site is to have.
    """
    learner = learner_skeleton(backbone, config.method, classes, config.task)
    if all_private(config):
        try:
            refuse_private(learner)
        except PrivacyError as error:
            raise ConfigError(str(error)) from None
    manifest = learner.manifest(without=config.personal_parts)
    if not manifest.tensors:
        raise ConfigError(f"personal='{config.personal}' leaves nothing to exchange with method='{config.method}'.")
    return manifest, learner.rotation


class _Circle:
    """Sites that still agree, at least ``needed`` of them, and why the others do not."""

    def __init__(self, replies: dict[int, JoinReply], left_out: list[LeftOut], needed: int) -> None:
        self.replies, self.left_out, self.needed = replies, left_out, needed
        self._require()

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
        """Leave out sites with another value. Raises FederationError where too few are left."""
        for node, reply in list(self.replies.items()):
            if key(reply) != value:
                shown = key(reply)[:12].replace("\n", ", ")
                reason = safe_reason(f"has another {what} than the federation ({shown or 'none'}...)")
                self.left_out.append(LeftOut(node, reply.site, reason))
                del self.replies[node]
        self._require()

    def sites(self) -> tuple[Site, ...]:
        """Who is left, by name."""
        return tuple(sorted((_site(*item) for item in self.replies.items()), key=lambda site: site.name))

    def partition_hash(self) -> str:
        """See :attr:`Federation.partition_hash`."""
        hashes = Counter(reply.partition_hash for reply in self.replies.values())
        return "" if "" in hashes else hashes.most_common(1)[0][0]

    def _require(self) -> None:
        if len(self.replies) < self.needed:
            reasons = "; ".join(f"{left.name}: {left.reason}" for left in self.left_out)
            raise FederationError(
                f"{len(self.replies)} sites can take part, {self.needed} are needed. Left out: {reasons}."
            )
