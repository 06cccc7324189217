"""What a run comes to: the adapter, the model card and the summary, which is written last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmedpeft.adapter_directory import write_companions
from fedmedpeft.adapter_file import save_adapter
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState, Scores
from server.client_privacy import ClientPrivacy
from server.courier import Say, Traffic
from server.data_words import synthetic_warning
from server.joining import Federation
from server.model_card import model_card
from server.records import ReferenceRecord, SiteRecord
from server.run_directory import RunDirectory
from server.summary import summarise
from server.tables import summary_lines

_Tests = Mapping[str, Mapping[str, Scores]]


@dataclass(frozen=True)
class Results:
    """Of the run in ``directory``."""

    config: RunConfig
    directory: RunDirectory
    say: Say

    def finish(
        self,
        federation: Federation,
        references: Sequence[ReferenceRecord],
        traffic: Mapping[str, Traffic],
        tests: _Tests | None = None,
        spent: Mapping[str, SiteRecord] | None = None,
        private: ClientPrivacy | None = None,
        withheld: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write and show the result; see :func:`server.summary.summarise`. With the summary the run is complete."""
        summary = summarise(
            self.config, federation, references, tests or {}, traffic, spent or {}, private, withheld or {}
        )
        self.directory.write_model_card(model_card(self.directory.name, summary, federation.fingerprint))
        self.directory.write_summary({"run": self.directory.name, "fingerprint": federation.fingerprint} | summary)
        for line in summary_lines(summary):
            self.say(line)
        if warning := synthetic_warning([site.name for site in federation.sites], federation.synthetic_sites):
            self.say(warning)

    def save_adapter(self, federation: Federation, state: PeftState) -> None:
        """``adapter/``: the final global state."""
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
            synthetic=bool(federation.synthetic_sites),
            run=self.directory.name,
        )
        write_companions(directory, saved, state)
