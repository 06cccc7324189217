"""Lines of a site that took part in a run."""

from __future__ import annotations

from clients.audit_log.events import (
    Asked,
    DryRun,
    Event,
    Left,
    Notice,
    PolicyRead,
    Refused,
    Repeated,
    Started,
    Stopped,
    Trained,
)
from clients.policy_section import PolicySection

CAME, WENT, DATA, MANIFEST = "c1" * 32, "d2" * 32, "a1" * 32, "b2" * 32
RUN, OTHER_RUN = "lora-1", "bitfit-2"

ASKED = Asked(
    request="visit", run=RUN, round=3, bytes=101_000, content_hash=CAME, state_norm=12.5, manifest_hash=MANIFEST
)
TRAINED = Trained(
    request="visit", run=RUN, round=3, data_hash=DATA, records=180, steps=10, seconds=4.25, private="patient"
)
LEFT = Left(
    request="visit",
    run=RUN,
    round=3,
    bytes=101_500,
    content_hash=WENT,
    parts={"method": 25_000, "head": 330},
    manifest_hash=MANIFEST,
    update_norm=0.31234567,
    state_norm=12.6,
    scores=("val/accuracy", "val/auroc"),
    withheld=("test",),
    epsilon=1.75,
    delta=1e-5,
)
REFUSED = Refused(
    request="visit",
    run=OTHER_RUN,
    round=1,
    code="POLICY",
    stage="policy",
    reason="policy: method 'full' is not allowed here",
)
ALL: tuple[Event, ...] = (
    Started.here(),
    PolicyRead.of(PolicySection()),
    ASKED,
    TRAINED,
    LEFT,
    Repeated(request="visit", run=RUN, round=3, bytes=101_500, content_hash=WENT),
    Notice(request="visit", run=RUN, round=4, words="norm 90 is far from the others'"),
    Asked(request="visit", run=OTHER_RUN, round=1, bytes=900, content_hash=CAME),
    REFUSED,
    DryRun(request="visit", run=OTHER_RUN, round=2, bytes=700, content_hash=WENT, file_hash=DATA),
    Stopped(),
)
"""One of each but the first, which a log begins with by itself."""
