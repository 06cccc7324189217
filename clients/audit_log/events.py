"""What is noted in a site's audit log. No event can hold an image, a label, a patient, a path or an error's text."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Literal, Self

from pydantic import ConfigDict, Field

from clients.audit_log.plain import (
    ClaimedDigest,
    Code,
    Count,
    Digest,
    Finite,
    Moment,
    Name,
    Names,
    Sentence,
    Site,
    Version,
)
from clients.policy_section import PolicySection
from fedmedpeft import __version__
from fedmedpeft.chain import Line, now

FORMAT = 1

RequestKind = Literal["answers", "join", "visit", "reference", "other"]
"""``other``: what a site does not do, from a server with other code."""
Stage = Literal["request", "policy", "inbound", "training", "egress", "hours", "disk", "memory", "code"]
Unit = Literal["record", "image", "patient", "site"]


class _Event(Line):
    """Made when it happens."""

    model_config = ConfigDict(allow_inf_nan=False)

    time: Moment = Field(default_factory=now)
    version: Version = __version__


class _About(_Event):
    """Belongs to a request of a run."""

    request: RequestKind
    run: Name = ""
    """Empty: of no run in particular."""
    round: int | None = None


class Opened(_Event):
    """The first line."""

    kind: Literal["opened"] = "opened"
    format: int = FORMAT
    site: Site


class Started(_Event):
    """The site worker started; ``versions`` of what it runs."""

    kind: Literal["started"] = "started"
    versions: dict[Name, Version]

    @classmethod
    def here(cls) -> Self:
        """With the versions that are installed."""
        found = {"python": platform.python_version()}
        for package in ("fedmedpeft", "flwr", "torch"):
            try:
                found[package] = version_of(package)
            except PackageNotFoundError:
                continue
        return cls(versions=found)


class Stopped(_Event):
    """The site worker ended as it was told to; without this line before the next start it was killed."""

    kind: Literal["stopped"] = "stopped"


class PolicyRead(_Event):
    """The policy that holds from here on."""

    kind: Literal["policy"] = "policy"
    policy_hash: Digest

    @classmethod
    def of(cls, policy: PolicySection) -> Self:
        """Equal for equal rules, however ``site.yaml`` writes them."""
        text = json.dumps(policy.model_dump(mode="json", by_alias=True), sort_keys=True)
        return cls(policy_hash=hashlib.sha256(text.encode()).hexdigest())


class Asked(_About):
    """A request came in, whatever becomes of it.

    Args:
        bytes: of the message.
        content_hash: of the message.
        state_norm: Euclidean, of the state that came.
        manifest_hash: that it came with.
        run_hash: of the run configuration that it announced.
    """

    kind: Literal["asked"] = "asked"
    bytes: Count
    content_hash: Digest
    state_norm: Finite = None
    manifest_hash: ClaimedDigest = None
    run_hash: ClaimedDigest = None


class Trained(_About):
    """The site trained.

    Args:
        data_hash: of the site's training data.
        records: trained on.
        private: what the update is differentially private per; None: it is not.
    """

    kind: Literal["trained"] = "trained"
    data_hash: Digest
    records: Count
    steps: Count
    seconds: float
    private: Unit | None = None


class _Outgoing(_About):
    """An answer.

    Args:
        bytes: of the packed message.
        content_hash: of the packed message.
        parts: of the state in it, and how many numbers each has.
        manifest_hash: of the names of those numbers.
        update_norm: Euclidean, of what training changed.
        state_norm: Euclidean, of the state.
        scores: names of the scores in it.
        withheld: what the policy kept back.
        epsilon: that the data have spent by now, at ``delta``.
    """

    bytes: Count
    content_hash: Digest
    parts: dict[Name, Count] = Field(default_factory=dict)
    manifest_hash: Digest | None = None
    update_norm: Finite = None
    state_norm: Finite = None
    scores: Names = ()
    withheld: Names = ()
    epsilon: Finite = None
    delta: Finite = None


class Left(_Outgoing):
    """Written before the answer leaves: it did, or was about to when the process ended."""

    kind: Literal["left"] = "left"


class DryRun(_Outgoing):
    """What would have left, and the file that holds it."""

    kind: Literal["dry_run"] = "dry_run"
    file_hash: Digest


class Repeated(_About):
    """An earlier answer, noted as left then, is sent once more, to the byte."""

    kind: Literal["repeated"] = "repeated"
    bytes: Count
    content_hash: Digest


class Refused(_About):
    """A request was not answered. ``reason`` is the sentence that the server is told.

    Where the app that the server sent is not the installed one (``CODE``), Flower's process refuses before it reads the
    request: then nothing is ``asked`` before it, and the run is not known.
    """

    kind: Literal["refused"] = "refused"
    code: Code
    stage: Stage
    reason: Sentence


class Notice(_About):
    """The server's words about why this site's last answer did not count."""

    kind: Literal["notice"] = "notice"
    words: Sentence


Event = Opened | Started | Stopped | PolicyRead | Asked | Trained | Left | DryRun | Repeated | Refused | Notice
