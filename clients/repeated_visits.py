"""A visit that is asked for once more: the same request gets the same answer, without training or paying again.

A server that was killed between sending and aggregating asks anew. What a site then gave once it gives again, so that
the run goes on as if nothing had happened and nothing more leaves the site than what had left it. Another request for a
round that is done is another matter: the site goes back to what it was before that round.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch

from clients.outgoing import noises_sites
from clients.site_store import Answered, SiteStore
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal, SiteError, VisitReply, VisitRequest
from fedmedpeft.exchange import flower as wire

_NOT_OF_A_VISIT = ("device", "min-sites", "resume", "round-timeout", "run-name", "runs-dir", "sites")
"""Keys that change nothing of what a site does in a visit, and so may differ between two tries of one run."""


@dataclass(frozen=True)
class RepeatedVisits:
    """What one site has answered in one run.

    Args:
        config: of the run.
        store: of the site.
    """

    config: RunConfig
    store: SiteStore

    def identity(self, request: VisitRequest) -> bytes:
        """What makes two requests the same one: run, round, configuration, and the state to start from."""
        state = request.state_hash or _hash(request)
        asked = (request.run, request.round, request.fingerprint, request.proximal, request.train, request.clip, state)
        config = {key: value for key, value in self.config.to_mapping().items() if key not in _NOT_OF_A_VISIT}
        return hashlib.sha256(json.dumps([asked, config], sort_keys=True).encode()).digest()

    def answer(self, request: VisitRequest) -> VisitReply | None:
        """The answer that this request got before; None where it is new."""
        if request.last:
            return None
        identity = self.identity(request)
        for answered in self.store.answered(request.run):
            if answered.round == request.round and answered.request == identity:
                return wire.decode_visit_reply(wire.unpack(answered.reply))
        return None

    def kept(self, request: VisitRequest) -> dict[str, torch.Tensor]:
        """What the site's store had before the round that ``request``, which is no repetition, asks for.

        Raises:
            SiteError: the round is done and what was before it is no longer there, or its answer was noised at the site
                so that another one would give away more than is accounted for.
        """
        answered = self.store.answered(request.run)
        last = answered[0].round if answered else 0
        if request.last or request.round > last:
            return self.store.load(request.run)
        if noises_sites(self.config):
            raise SiteError(Refusal.REPEATED, f"it has answered round {request.round} and adds its noise only once")
        if request.round == 1:
            return {}
        if request.round < last:
            raise SiteError(Refusal.REPEATED, f"it has trained round {last} already, and is asked for another")
        return self.store.load_before(request.run)

    def keep(self, request: VisitRequest, stays: dict[str, torch.Tensor], reply: VisitReply) -> None:
        """Have the site's store keep what a visit leaves, and its answer.

        A first round that is answered begins another run of the same name, which nothing of the old one may enter.
        Until then it is only somebody's word, and what the old one left stays.
        """
        if request.round == 1:
            self.store.forget(request.run)
        answered = Answered(request.round, self.identity(request), wire.pack(wire.encode(reply)))
        self.store.keep(request.run, stays, answered)


def _hash(request: VisitRequest) -> str:
    digest = hashlib.sha256(request.state.manifest_hash.encode())
    for part, vector in sorted(request.state.vectors.items()):
        digest.update(part.encode() + b"\0" + vector.tobytes())
    return digest.hexdigest()
