"""The classes of a run that the federation agreed on, at one site: checked, kept, and found again."""

from __future__ import annotations

from dataclasses import dataclass

from clients.site_store import SiteStore
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, Refusal, SiteError
from fedmedpeft.starting_state import given_classes
from fedmedpeft.tasks.answers import check_vocabulary


@dataclass(frozen=True)
class RunClasses:
    """Flower sends later messages of a run to other processes, so what a site was sent once is on its disk.

    Args:
        config: of the run; a list of its own that it names must be the one that the server has.
        store: of this site.
    """

    config: RunConfig
    store: SiteStore

    def of(self, run: str, sent: str | None) -> tuple[str, ...]:
        """The classes of ``run``.

        Args:
            run: a plain name.
            sent: one a line, in the request at hand; they are kept. None: those that were kept before.

        Raises:
            ContractError: what was sent can be no run's classes.
            SiteError: nothing was sent and nothing is kept, or the site's own configuration names others.
        """
        if sent is None:
            kept = self.store.classes(run)
            if kept is None:
                raise SiteError(Refusal.CLASSES, "it no longer has the run's classes")
            return kept
        classes = tuple(sent.split("\n"))
        try:
            check_vocabulary(classes)
        except ValueError as error:
            raise ContractError(f"the list of the run's classes {error}") from None
        try:
            own = given_classes(self.config)
        except ConfigError as error:
            raise SiteError(
                Refusal.CONFIGURATION, "its own list of answers cannot be used; its log says why"
            ) from error
        if own not in (None, classes):
            raise SiteError(Refusal.CONFIGURATION, "its own list of answers differs from the run's")
        self.store.keep_classes(run, classes)
        return classes
