"""One run, from the first node to the last file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.constant import TaskType

from fedmedpeft.backbones import BackboneRecord, load_record
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState
from fedmedpeft.privacy.client_accounting import honest_warning
from fedmedpeft.privacy.client_level import FEWEST_SITES
from fedmedpeft.privacy.options import check_privacy
from server.aggregation import Aggregator
from server.checkpoints import Saved
from server.client_checks import check_client_privacy, check_sites
from server.client_privacy import ClientPrivacy
from server.comparison import Comparison
from server.courier import Courier, Say
from server.data_words import synthetic_warning
from server.distribution import Distribution
from server.errors import FederationError, failure_words
from server.introductions import Joined, join
from server.joining import Federation, Site, exchanged
from server.keeper import Keeper
from server.nodes import wait_for_nodes
from server.payments import Payments
from server.progress import Progress, Standing
from server.records import ReferenceRecord, RoundRecord, SiteRecord
from server.references import TRAINED, train_references
from server.results import Results
from server.resumption import open_run
from server.roll import Roll
from server.rounds import RoundLoop, sites_asked
from server.run_directory import RunDirectory
from server.run_state import RESUME_FILE
from server.strategies import build_strategy, check_inbound, check_rotation, fewest_sites, proximal_of
from server.visits import ABSENT, Visits

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
    _, rotation = exchanged(config, backbone_of(config), _ANY_CLASSES)
    if config.mode == "federated":
        check_rotation(strategy, rotation, config.strategy)
    level = check_client_privacy(config, strategy, rotation)
    if config.mode == "federated":
        check_inbound(strategy, config.inbound_factor, config.strategy)
    with open_run(config, say, simulated=grid.run.primary_task_type == TaskType.SIMULATION) as directory:
        payments = Payments(directory.checkpoints.folder / "payments.json")
        private = ClientPrivacy(level, payments=payments) if level else None
        say(f"Run directory: {directory.path}")
        try:
            directory.write_begin(str(grid.run.run_id))
            run = _Run(config, Courier(grid, config.round_timeout, say), directory, say, strategy, private)
            saved = directory.checkpoints.newest(say) if config.resume else None
            if saved:
                run.go_on(saved)
            else:
                run.start()
        except BaseException as error:
            if isinstance(error, Exception):
                # On a full disk the error itself says more than that it could not be written down.
                with suppress(OSError):
                    directory.write_failure(failure_words(error))
            if directory.checkpoints.rounds() and not isinstance(error, ConfigError):
                say(f"The run is interrupted and can go on: '{directory.path / RESUME_FILE}' says how.")
            raise
        finally:
            say(f"Run directory: {directory.path}")
    return directory


def backbone_of(config: RunConfig) -> BackboneRecord:
    """All that the server knows of the backbone."""
    return load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)


@dataclass
class _Run:
    config: RunConfig
    courier: Courier
    directory: RunDirectory
    say: Say
    strategy: FedAvg
    private: ClientPrivacy | None

    @property
    def least(self) -> int:
        """Usable answers that a round needs."""
        return max(self.config.min_sites, fewest_sites(self.strategy), FEWEST_SITES if self.private else 1)

    @property
    def results(self) -> Results:
        return Results(self.config, self.directory, self.say)

    def start(self) -> None:
        """From joining to the last file."""
        nodes = wait_for_nodes(self.courier.grid, self.config, self.say)
        began = time.monotonic()
        joined = join(self.courier, self.config, self.directory.name, nodes)
        federation = joined.federation
        first_row = self._write_down_joining(joined, time.monotonic() - began)
        self._warn_of_noise(federation)
        if joined.state is not None and self.least > len(federation.sites):
            raise ConfigError(
                f"strategy='{self.config.strategy}' needs {self.least} sites to do what its name says, "
                f"{len(federation.sites)} take part. Choose another strategy or other options, or add sites."
            )
        references = train_references(self.courier, self.config, self.directory.name, federation, self.say)
        self.directory.write_references(references)
        if joined.state is None:
            if not any(record.outcome == TRAINED for record in references):
                raise FederationError("No reference was trained; the lines above say why.")
            self.results.finish(federation, references, self.courier.traffic)
            return
        if self.private:
            self.private.begin()
        keeper = self._keeper(federation, references)
        standing = Standing(0, joined.state, first_row)
        keeper.keep(standing)
        self._federate(keeper, self._roll(federation, federation.sites), standing, joined.state)

    def go_on(self, saved: Saved) -> None:
        """From a checkpoint to the last file."""
        self.say(f"Going on after round {saved.round} of {self.config.rounds}.")
        progress = Progress.of_plain(saved.progress)
        federation = progress.agreement.federation(self.config, backbone_of(self.config))
        self.courier.traffic.update(progress.traffic)
        self.directory.put_back(progress.rounds, progress.sites)
        keeper = self._keeper(federation, progress.references)
        standing = keeper.put_back(saved, progress)
        roll = self._roll(federation, [replace(site, node=ABSENT) for site in federation.sites])
        roll.call_again(self.least)
        initial = standing.state if saved.round == 0 else None
        if initial is None and federation.rotation and not federation.rotation.persist:
            initial = roll.initial_state()
        self._warn_of_synthetic(federation)
        self._federate(keeper, roll, standing, initial)

    def _roll(self, federation: Federation, sites: Sequence[Site]) -> Roll:
        return Roll(self.courier, self.config, self.directory.name, federation, tuple(sites))

    def _keeper(self, federation: Federation, references: Sequence[ReferenceRecord]) -> Keeper:
        """The parts that change from round to round, and what takes them down."""
        visits = Visits(
            self.directory.name,
            federation,
            Distribution(federation.rotation, self.config.seed),
            self.courier,
            proximal_of(self.strategy),
            self.private,
            Comparison(self.config.outlier_spread, among_sites=self.private is None),
        )
        aggregator = Aggregator(self.strategy, federation.contract, self.config.weighting, self.private)
        return Keeper(self.directory, visits, aggregator, references)

    def _federate(self, keeper: Keeper, roll: Roll, start: Standing, initial: PeftState | None) -> None:
        """All rounds that are left, the last visit, the adapter and the result."""
        loop = RoundLoop(
            config=self.config,
            roll=roll,
            visits=keeper.visits,
            aggregator=keeper.aggregator,
            least=self.least,
            directory=self.directory,
            say=self.say,
            keep=keeper.keep,
        )
        state, tests = loop.train_and_test(start, initial)
        if not loop.aggregated:
            raise FederationError("No round had enough usable answers: nothing was learned. sites.csv says why.")
        self.results.save_adapter(roll.federation, state)
        self.results.finish(
            roll.federation, keeper.references, self.courier.traffic, tests, loop.spent, self.private, loop.withheld
        )

    def _warn_of_synthetic(self, federation: Federation) -> None:
        if warning := synthetic_warning([site.name for site in federation.sites], federation.synthetic_sites):
            self.say(warning)

    def _warn_of_noise(self, federation: Federation) -> None:
        """What privacy of whole sites leaves to learn. Raises ConfigError where too few sites take part for it."""
        if self.private is None:
            return
        level, config, sites = self.private.level, self.config, len(federation.sites)
        check_sites(level, sites)
        asked = sites_asked(sites, config.sampling_fraction, self.least)
        numel = federation.rotation.largest_part(federation.contract.manifest).numel()
        for line in honest_warning(level, asked, config.rounds, numel):
            self.say(line)

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
        self._warn_of_synthetic(federation)
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
