"""Hospitals that share one process: one backbone and one data source for all, one worker for each.

Flower's simulator sends any hospital's message to any of its actor processes, so everything cached here is keyed by
what it is made from, never by who asked first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from flwr.app import RecordDict

from clients.domain_check import domain_verdict
from clients.requests import act, read_request
from clients.site_model import Models, models_of
from clients.site_privacy import SitePrivacy
from clients.site_store import SiteStore
from clients.worker import SiteWorker
from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError, PartitionManifest, Source, build_source
from fedmedpeft.data.run_partition import partition_for
from fedmedpeft.data.site_data import SiteData, load_site
from fedmedpeft.exchange import PeftState, Refusal, SiteError
from fedmedpeft.exchange import flower as wire
from fedmedpeft.learner import Learner, load_configured
from fedmedpeft.privacy.options import check_named_sites, site_privacy
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.reading import check_reading, text_reader
from fedmedpeft.training import FeatureCache

_features = FeatureCache()
_log = logging.getLogger("fedmedpeft.site")


class SimulatedFederation:
    """What all simulated hospitals of one run share. Only here can anyone see more than one hospital's data."""

    def __init__(self, config: RunConfig, count: int) -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.config = config
        self.source: Source = build_source(config.data)
        self.partition: PartitionManifest = partition_for(config, self.source, count)
        check_named_sites(config, self.partition.sites)
        self.backbone: Backbone = load_configured(config)
        check_reading(config, self.source, self.backbone)
        self._texts = text_reader(config, self.backbone)
        self.model: Models = models_of(config, self.backbone)
        """The model that all sites here share, over the classes of their run."""
        self._data: dict[str, SiteData] = {}
        self._decided: dict[str, SitePrivacy] = {}

    @property
    def learner(self) -> Learner:
        """Over the classes of the data, where it is the data that names them."""
        return self.model(build_task(self.config.task).of_data(self.source.table.classes).classes).learner

    @property
    def initial(self) -> PeftState:
        """Where that learner starts."""
        return self.model(self.learner.task.classes).initial

    def data(self, site: str) -> SiteData:
        """Images of one site, decoded once, and its texts. Raises DataError where too little is readable."""
        if site not in self._data:
            preprocessing = self.backbone.record.preprocessing
            self._data[site] = load_site(
                self.source,
                self.partition,
                site,
                image_size=preprocessing.image_size,
                interpolation=preprocessing.interpolation,
                texts=self._texts,
            )
            for line in (*self._data[site].notes, *self._data[site].details):
                _log.warning("%s: %s", site, line)
        return self._data[site]

    def everyone(self) -> list[SiteData]:
        """All sites whose data can be read; one that cannot takes no part in any reference."""
        readable = []
        for site in self.partition.sites:
            try:
                readable.append(self.data(site))
            except DataError:
                continue
        return readable

    def worker(self, index: int) -> SiteWorker:
        site = self.partition.sites[index]
        return SiteWorker(
            self.config,
            self.data(site),
            self.model,
            synthetic=self.source.synthetic,
            store=SiteStore.below(self.config.runs_dir, site),
            partition_hash=self.partition.hash(),
            features=_features,
            privacy=self._privacy(site),
            everyone=self.everyone,
        )

    def _privacy(self, site: str) -> SitePrivacy:
        """Decided once: what `auto` looks at does not change during a run. Raises ConfigError for bad settings."""
        if site not in self._decided:
            settings = site_privacy(self.config, site)
            store = SiteStore.below(self.config.runs_dir, site)
            data = self.data(site)
            self._decided[site] = SitePrivacy(
                settings, self.config, data, store, partial(domain_verdict, settings, self.config, data)
            )
        return self._decided[site]


@lru_cache(maxsize=1)
def _federation(config: RunConfig, count: int) -> SimulatedFederation:
    return SimulatedFederation(config, count)


def simulated_site(run_config: Mapping[str, Any], index: int, count: int) -> Callable[[str, RecordDict], RecordDict]:
    """Hospital ``index`` of ``count``: takes the kind of a request and its content, gives the answer's.

    Raises:
        SiteError: the configuration or the data cannot be used; safe to send to the server.
    """
    worker = simulated_worker(run_config, index, count)
    return lambda kind, content: wire.encode(act(worker, read_request(kind, content)))


def simulated_worker(run_config: Mapping[str, Any], index: int, count: int) -> SiteWorker:
    """Its worker. Raises SiteError as :func:`simulated_site` does."""
    try:
        return _federation(RunConfig.from_mapping(run_config), count).worker(index)
    except ConfigError as error:
        raise SiteError(Refusal.CONFIGURATION, str(error)) from error
    except DataError as error:
        raise SiteError(Refusal.DATA, error.public) from error
