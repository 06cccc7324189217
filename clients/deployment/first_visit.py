"""The visit that a dry run trains: the one that a server would ask for in round 1."""

from __future__ import annotations

from clients.request_checks import REHEARSAL
from clients.worker import SiteWorker
from fedmedpeft.exchange import VisitRequest
from fedmedpeft.privacy.client_level import client_level


def rehearsal_of(run: str) -> str:
    """The name that such a visit has in the store, so that what it leaves is not in the way of ``run`` itself."""
    return f"{REHEARSAL}{run}"


def first_visit(worker: SiteWorker, run: str) -> VisitRequest:
    """A request of the site to itself, from the state that all sites start from."""
    config, learner = worker.config, worker.learner
    rotation, manifest = learner.rotation, worker.contract.manifest
    train = rotation.draw(config.seed, 1, worker.data.site) if rotation else ()
    whole, level = worker.initial.only(manifest), client_level(config.client_privacy)
    return VisitRequest(
        run=rehearsal_of(run),
        round=1,
        last=False,
        fingerprint=learner.backbone.fingerprint,
        proximal=0.0,
        state=whole.only(rotation.part(manifest, ())).encode(),
        train=rotation.write(train),
        state_hash=whole.hash() if rotation else "",
        clip=level.clip if level and level.clip_at == "site" else 0.0,
    )
