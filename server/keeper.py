"""Takes down everything that changes from round to round, and puts it back where a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedpeft.exchange import PeftState
from server.aggregation import Aggregator
from server.checkpoints import Saved
from server.progress import Agreement, Progress, Standing
from server.records import ReferenceRecord
from server.run_directory import RunDirectory
from server.visits import Visits


@dataclass(frozen=True)
class Keeper:
    """Of one run: whatever of it lasts from round to round is in the checkpoint that this writes.

    Args:
        directory: of the run.
        visits: to the sites, with what each of them has, and privacy of whole sites.
        aggregator: with the strategy's memory.
        references: as trained.
    """

    directory: RunDirectory
    visits: Visits
    aggregator: Aggregator
    references: Sequence[ReferenceRecord]

    def keep(self, standing: Standing) -> None:
        """Write the checkpoint after a round; from here on a server that was killed goes on."""
        visits, private = self.visits, self.visits.private
        rounds, sites = self.directory.rows()
        progress = Progress(
            agreement=Agreement.of(visits.federation),
            rounds=rounds,
            sites=sites,
            pending=standing.pending,
            aggregated=standing.aggregated,
            spent=dict(standing.spent),
            withheld=dict(standing.withheld),
            references=list(self.references),
            traffic=visits.courier.traffic,
            distribution=visits.distribution.state(),
            visits=visits.state(),
            private=private.state() if private else None,
        )
        self.directory.checkpoints.write(standing.round, standing.state, self.aggregator.memory(), progress.plain())

    def put_back(self, saved: Saved, progress: Progress) -> Standing:
        """Everything as it was after that round. Raises ContractError where the state breaks the contract."""
        visits, private = self.visits, self.visits.private
        visits.distribution.resume(progress.distribution)
        visits.resume(progress.visits)
        if private and progress.private is not None:
            private.resume(progress.private)
        self.aggregator.recall(saved.memory)
        contract = visits.federation.contract
        return Standing(
            round=saved.round,
            state=contract.admit(PeftState.from_tensors(contract.manifest, saved.state).encode()),
            pending=progress.pending,
            aggregated=progress.aggregated,
            spent=progress.spent,
            withheld=progress.withheld,
        )
