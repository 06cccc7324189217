"""One hospital and one run: its worker, with backbone and data loaded once."""

from __future__ import annotations

import logging
from functools import partial

import torch

from clients.deployment.own_data import own_partition, own_source
from clients.deployment.run_size import within
from clients.deployment.site_run import site_config, site_settings
from clients.domain_check import domain_verdict
from clients.egress.policy import Policy
from clients.egress.withholding import refuse_few
from clients.site_file import SiteFile
from clients.site_model import models_of
from clients.site_privacy import SitePrivacy
from clients.site_store import SiteStore
from clients.worker import SiteWorker
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError, PartitionManifest, Source
from fedmedpeft.data.site_data import load_site
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.learner import load_configured
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.reading import check_reading, text_reader
from fedmedpeft.training import FeatureCache

_log = logging.getLogger("fedmedpeft.site")


def hospital_worker(site: SiteFile, announced: RunConfig) -> SiteWorker:
    """Load backbone and data for a run that the policy allows. Takes seconds; one worker serves the whole run.

    Raises:
        SiteError: the configuration, the backbone or the data cannot be used; the details are in the site's log.
    """
    try:
        return _build(site, site_config(site, announced))
    except ConfigError as error:
        _log.error("%s", error)
        raise SiteError(Refusal.CONFIGURATION, "the run cannot be set up here; the site's log says why") from error
    except DataError as error:
        _log.error("%s", error)
        raise SiteError(Refusal.DATA, error.public) from error


def _build(site: SiteFile, config: RunConfig) -> SiteWorker:
    torch.use_deterministic_algorithms(True, warn_only=True)
    if site.worker.threads:
        torch.set_num_threads(site.worker.threads)
    source = own_source(site)
    if build_task(config.task).classes_from == "data" and not site.data.classes:
        raise ConfigError(
            "data.classes of site.yaml is empty. List all labels of the federation there, sorted: the server is told "
            "them, and so they are not taken from whatever the label column holds."
        )
    backbone = load_configured(config)
    Policy(site.policy, site.backbones).check_fingerprint(backbone.fingerprint)
    check_reading(config, source, backbone)
    preprocessing = backbone.record.preprocessing
    data = load_site(
        source,
        _partition(site, config, source),
        site.site,
        image_size=preprocessing.image_size,
        interpolation=preprocessing.interpolation,
        texts=text_reader(config, backbone),
    )
    for line in (*data.notes, *data.details):
        _log.warning("%s", line)
    store = SiteStore.below(config.runs_dir, site.site)
    settings = site_settings(site)
    return SiteWorker(
        config,
        data,
        within(site.policy.most_bytes, models_of(config, backbone), config, backbone.record),
        synthetic=source.synthetic,
        store=store,
        partition_hash="",
        features=FeatureCache(),
        privacy=SitePrivacy(settings, config, data, store, partial(domain_verdict, settings, config, data)),
    )


def _partition(site: SiteFile, config: RunConfig, source: Source) -> PartitionManifest:
    """The division of the site's rows. Where they are fewer than may be told, whatever a run wants to have at least is
    not looked at: asked with one number after another, it would tell how many they are.
    """
    partition = own_partition(config.model_copy(update={"min_train_per_site": 1}), source, site.site)
    refuse_few(len(partition.rows(site.site, "train")), site.policy, build_task(config.task))
    return own_partition(config, source, site.site)
