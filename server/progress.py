"""Where a run stands after a round: everything that the next rounds and the files at the end depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fedmedpeft.backbones import BackboneRecord
from fedmedpeft.components import ConfigError, explain
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Contract, PeftState
from fedmedpeft.tasks import build_task
from server.courier import Traffic
from server.joining import Federation, LeftOut, Site, exchanged
from server.records import ReferenceRecord, RoundRecord, SiteRecord


@dataclass(frozen=True)
class Standing:
    """Where the rounds stand.

    Args:
        round: the last one that is done; 0: none.
        state: from which the next one starts.
        pending: of that round; its scores arrive with the next visit.
        aggregated: rounds so far that changed the state.
        spent: the last answer of each site that trains with privacy.
        withheld: what sites keep back, by the last answer of each.
    """

    round: int
    state: PeftState
    pending: RoundRecord
    aggregated: int = 0
    spent: Mapping[str, SiteRecord] = field(default_factory=dict)
    withheld: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """What the sites agreed on when they joined: with the configuration, all that a :class:`Federation` is made of."""

    sites: tuple[Site, ...]
    left_out: tuple[LeftOut, ...]
    classes: tuple[str, ...]
    fingerprint: str
    manifest_hash: str
    state_hash: str
    partition_hash: str
    shares_images: bool

    @classmethod
    def of(cls, federation: Federation) -> Agreement:
        return cls(
            sites=federation.sites,
            left_out=federation.left_out,
            classes=federation.classes,
            fingerprint=federation.fingerprint,
            manifest_hash=federation.contract.manifest.hash,
            state_hash=federation.state_hash,
            partition_hash=federation.partition_hash,
            shares_images=federation.shares_images,
        )

    def federation(self, config: RunConfig, backbone: BackboneRecord) -> Federation:
        """The federation once more; its sites have the nodes that they had then.

        Raises:
            ConfigError: this version of the program exchanges other tensors than the one that the run began with.
        """
        manifest, rotation = exchanged(config, backbone, self.classes)
        if manifest.hash != self.manifest_hash:
            raise ConfigError(
                f"resume='{config.resume}': this version exchanges other tensors (manifest {manifest.hash[:12]}) than "
                f"the one that the run began with ({self.manifest_hash[:12]}). Install the versions that its "
                "config.toml names, and the backbone that it was given."
            )
        return Federation(
            sites=self.sites,
            left_out=self.left_out,
            task=build_task(config.task, self.classes),
            fingerprint=self.fingerprint,
            backbone=backbone,
            contract=Contract(manifest, config.max_norm),
            rotation=rotation,
            state_hash=self.state_hash,
            partition_hash=self.partition_hash,
            shares_images=self.shares_images,
        )


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds besides tensors.

    Args:
        agreement: of the sites.
        rounds: rows of ``rounds.csv``.
        sites: rows of ``sites.csv``.
        pending: as in :class:`Standing`, and so are ``aggregated``, ``spent`` and ``withheld``.
        references: as trained.
        traffic: by phase.
        distribution: of :meth:`server.distribution.Distribution.state`.
        visits: of :meth:`server.visits.Visits.state`.
        private: of :meth:`server.client_privacy.ClientPrivacy.state`; None without.
    """

    agreement: Agreement
    rounds: list[dict[str, Any]]
    sites: list[dict[str, Any]]
    pending: RoundRecord
    aggregated: int
    spent: dict[str, SiteRecord]
    withheld: dict[str, tuple[str, ...]]
    references: list[ReferenceRecord]
    traffic: dict[str, Traffic]
    distribution: dict[str, Any]
    visits: dict[str, Any]
    private: dict[str, Any] | None

    def plain(self) -> Any:
        """As values that JSON can hold."""
        return _PROGRESS.dump_python(self)

    @classmethod
    def of_plain(cls, values: Any) -> Progress:
        """From what :meth:`plain` gave. Raises ConfigError where another version of this program gave it."""
        try:
            return _PROGRESS.validate_python(values)
        except ValidationError as error:
            raise ConfigError(
                f"The checkpoint was written by another version of this program ({explain(error)}). Install the one "
                "that the run's config.toml names."
            ) from None


_PROGRESS = TypeAdapter(Progress)
