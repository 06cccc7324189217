"""One run, from the first node to the last file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fedmedpeft.adapter_directory import write_companions
from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.backbones import load_record
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState, Scores
from fedmedpeft.privacy.client_accounting import honest_warning
from fedmedpeft.privacy.client_level import FEWEST_SITES
from fedmedpeft.privacy.options import check_privacy
from server.aggregation import Aggregator
from server.client_checks import check_client_privacy, check_sites
from server.client_privacy import ClientPrivacy
from server.courier import Courier, Say
from server.distribution import Distribution
from server.errors import FederationError
from server.introductions import Joined, join
from server.joining import Federation, exchanged
from server.model_card import SYNTHETIC_WARNING, model_card
from server.nodes import wait_for_nodes
from server.records import ReferenceRecord, RoundRecord, SiteRecord
from server.references import TRAINED, train_references
from server.rounds import RoundLoop, sites_asked
from server.run_directory import RunDirectory
from server.strategies import build_strategy, check_inbound, check_rotation, fewest_sites, proximal_of
from server.summary import summarise
from server.tables import summary_lines
from server.visits import Visits

_ANY_CLASSES = ("a", "b")
"""What takes turns does not depend on the classes, which only the sites know."""


def run_federation(config: RunConfig, grid: Grid, say: Say) -> RunDirectory:
    """Run what ``config`` says over the nodes of ``grid``; everything is left in the run directory that is returned.

    Raises:
        ConfigError: the configuration cannot be used.
        FederationError: too few sites, or nothing was learned.
    """
    check_privacy(config)
    strategy = build_strategy(config.strategy)
    backbone = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    _, rotation = exchanged(config, backbone, _ANY_CLASSES)
    if config.mode == "federated":
        check_rotation(strategy, rotation, config.strategy)
    level = check_client_privacy(config, strategy, rotation)
    if config.mode == "federated":
        check_inbound(strategy, config.inbound_factor, config.strategy)
    directory = RunDirectory.create(config)
    say(f"Run directory: {directory.path}")
    try:
        private = ClientPrivacy(level) if level else None
        _Run(config, Courier(grid, config.round_timeout, say), directory, say, private).all(strategy)
    finally:
        say(f"Run directory: {directory.path}")
    return directory


@dataclass
class _Run:
    config: RunConfig
    courier: Courier
    directory: RunDirectory
    say: Say
    private: ClientPrivacy | None

    def all(self, strategy: FedAvg) -> None:
        nodes = wait_for_nodes(self.courier.grid, self.config, self.say)
        began = time.monotonic()
        joined = join(self.courier, self.config, self.directory.name, nodes)
        first_row = self._write_down_joining(joined, time.monotonic() - began)
        least = max(self.config.min_sites, fewest_sites(strategy), FEWEST_SITES if self.private else 1)
        self._warn_of_noise(joined.federation, least)
        if joined.state is not None and least > len(joined.federation.sites):
            raise ConfigError(
                f"strategy='{self.config.strategy}' needs {least} sites to do what its name says, "
                f"{len(joined.federation.sites)} take part. Choose another strategy or other options, or add sites."
            )
        references = train_references(self.courier, self.config, self.directory.name, joined.federation, self.say)
        self.directory.write_references(references)
        if joined.state is not None:
            self._federate(strategy, least, joined.federation, joined.state, first_row, references)
            return
        if not any(record.outcome == TRAINED for record in references):
            raise FederationError("No reference was trained; the lines above say why.")
        self._finish(joined.federation, references, {}, {})

    def _warn_of_noise(self, federation: Federation, least: int) -> None:
        """What privacy of whole sites leaves to learn. Raises ConfigError where too few sites take part for it."""
        if self.private is None:
            return
        level, config, sites = self.private.level, self.config, len(federation.sites)
        check_sites(level, sites)
        asked = sites_asked(sites, config.sampling_fraction, least)
        numel = federation.rotation.largest_part(federation.contract.manifest).numel()
        for line in honest_warning(level, asked, config.rounds, numel):
            self.say(line)

    def _federate(
        self,
        strategy: FedAvg,
        least: int,
        federation: Federation,
        initial: PeftState,
        first_row: RoundRecord,
        references: Sequence[ReferenceRecord],
    ) -> None:
        """All rounds, the last visit, and the adapter."""
        distribution = Distribution(federation.rotation, self.config.seed)
        visits = Visits(
            self.directory.name, federation, distribution, self.courier, proximal_of(strategy), self.private
        )
        loop = RoundLoop(
            config=self.config,
            federation=federation,
            visits=visits,
            aggregator=Aggregator(strategy, federation.contract, self.config.weighting, self.private),
            least=least,
            directory=self.directory,
            say=self.say,
        )
        state, tests = loop.train_and_test(initial, first_row)
        if not loop.aggregated:
            raise FederationError("No round had enough usable answers: nothing was learned. sites.csv says why.")
        self._save_adapter(federation, state)
        self._finish(federation, references, tests, loop.spent)

    def _write_down_joining(self, joined: Joined, seconds: float) -> RoundRecord:
        """Say and record who takes part; the result is row 0 of the rounds, still without scores."""
        federation, answers = joined.federation, joined.answers
        self.directory.write_config(federation)
        for site in federation.sites:
            counts = ", ".join(f"{count} {split}" for split, count in site.samples.items())
            private = f"; trains with differential privacy per {site.private}" if site.private else ""
            self.say(f"  {site.name}: {counts}{private}")
        for left in federation.left_out:
            self.say(f"  {left.name} is left out of the run: {left.reason}")
        if federation.synthetic:
            self.say(SYNTHETIC_WARNING)
        outcomes = [(site.node, site.name, "joined", site.samples["train"]) for site in federation.sites]
        outcomes += [(left.node, left.name, left.reason, 0) for left in federation.left_out]
        self.directory.add_sites(
            [
                SiteRecord(0, name, outcome, samples, down=answers[node].down, up=answers[node].up)
                for node, name, outcome, samples in outcomes
            ]
        )
        traffic = self.courier.traffic["join"]
        return RoundRecord(0, len(answers), len(federation.sites), "joined", traffic.down, traffic.up, seconds)

    def _finish(
        self,
        federation: Federation,
        references: Sequence[ReferenceRecord],
        tests: Mapping[str, Mapping[str, Scores]],
        spent: Mapping[str, SiteRecord],
    ) -> None:
        summary = summarise(self.config, federation, references, tests, self.courier.traffic, spent, self.private)
        self.directory.write_summary({"run": self.directory.name, "fingerprint": federation.fingerprint} | summary)
        self.directory.write_model_card(model_card(self.directory.name, summary, federation.fingerprint))
        for line in summary_lines(summary):
            self.say(line)
        if federation.synthetic:
            self.say(SYNTHETIC_WARNING)

    def _save_adapter(self, federation: Federation, state: PeftState) -> None:
        directory = self.directory.path / "adapter"
        saved = save_adapter(
            directory,
            state,
            method=self.config.method,
            task=str(federation.task.spec),
            knowledge=self.config.knowledge,
            personal=self.config.personal_parts,
            backbone_revision=self.config.backbone_revision,
            seed=self.config.seed,
            classes=federation.classes,
            backbone=federation.backbone,
            fingerprint=federation.fingerprint,
            synthetic=federation.synthetic,
            run=self.directory.name,
        )
        write_companions(directory, saved, state)
