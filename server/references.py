"""References beside the federation: each site alone, and all data in one place."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, ReferenceReply, ReferenceRequest
from fedmedpeft.exchange import flower as wire
from fedmedpeft.exchange.messages import Reference
from server.courier import Answer, Courier, Say
from server.errors import safe_reason
from server.joining import Federation, Site
from server.quarantine import Quarantined, vet_scores
from server.records import ReferenceRecord

TRAINED = "trained"
WITHHELD = "its policy keeps the scores"
_PRIVATE = "not asked for: the site trains with privacy, and a reference would be trained without"


def wanted_references(config: RunConfig) -> tuple[Reference, ...]:
    """The references of this run, in the order in which they are trained."""
    if config.mode != "federated":
        return (config.mode,)
    chosen: dict[str, tuple[Reference, ...]] = {
        "none": (),
        "local-only": ("local-only",),
        "pooled": ("pooled",),
        "all": ("local-only", "pooled"),
    }
    return chosen[config.references]


def train_references(
    courier: Courier, config: RunConfig, run: str, federation: Federation, say: Say
) -> list[ReferenceRecord]:
    """Train the references that the run wants. One that fails is recorded with its reason and stops nothing.

    Nothing is trained on the data of a site with privacy: a reference has none, and its scores would leave the site.
    """
    records, private = [], [site for site in federation.sites if site.private]
    for kind in wanted_references(config):
        records += [ReferenceRecord(kind, site.name, _PRIVATE) for site in private]
        # Pooled data lies wherever all data lies, so any one site can train on it: the first by name.
        sites = [s for s in federation.sites if not s.private] if kind == "local-only" else federation.sites[:1]
        if not sites or (kind == "pooled" and private):
            continue
        say(f"Reference {kind}: training at {len(sites)} site{'s' * (len(sites) != 1)}.")
        records += _train(courier, config, run, federation, kind, sites)
    for record in records:
        if record.outcome != TRAINED:
            say(f"  no {record.kind} reference from {record.site}: {record.outcome}")
    return records


def _train(
    courier: Courier, config: RunConfig, run: str, federation: Federation, kind: Reference, sites: Sequence[Site]
) -> list[ReferenceRecord]:
    request = ReferenceRequest(kind, run if federation.task.agrees else None)
    # A reference is a whole run at once: it may take as long as all the rounds, and pooled as long as all the sites.
    patience = config.rounds * (len(federation.sites) if kind == "pooled" else 1)
    answers = courier.ask("references", wire.REFERENCE, {site.node: request for site in sites}, patience=patience)
    return [_read(answers[site.node], kind, site, federation) for site in sites]


def _read(answer: Answer, kind: Reference, site: Site, federation: Federation) -> ReferenceRecord:
    tested_on = {f"test/{other.name}": other.samples["test"] for other in federation.sites}
    tested_on |= {"test": site.samples["test"], "union": sum(tested_on.values())}
    try:
        if answer.content is None:
            raise Quarantined(answer.failure)
        reply: ReferenceReply = wire.decode_reference_reply(answer.content)
        if (reply.site, reply.kind) != (site.name, kind):
            raise Quarantined(f"answers as '{safe_reason(reply.site)}' for '{safe_reason(reply.kind)}'")
        scores = {key: score for key, score in reply.scores.items() if key in tested_on}
        if reply.withheld and not scores:
            return ReferenceRecord(kind, site.name, WITHHELD, seconds=reply.seconds)
        if reply.withheld:
            raise Quarantined("says that it withholds its scores, and sends some")
        return ReferenceRecord(kind, site.name, TRAINED, vet_scores(scores, federation.task, tested_on), reply.seconds)
    except (Quarantined, ContractError) as error:
        return ReferenceRecord(kind, site.name, safe_reason(str(error)))
    except Exception as error:
        # As for visits: no way of failing to read a site's bytes may end the run.
        return ReferenceRecord(kind, site.name, f"cannot be decoded ({type(error).__name__})")
