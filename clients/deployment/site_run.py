"""A run as it is at one hospital: what the server announces, with the keys that are the site's own put in."""

from __future__ import annotations

from dataclasses import replace

from clients.site_file import SiteFile
from fedmedpeft.components import ComponentSpec, parse_spec
from fedmedpeft.config import OFF, RunConfig
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.privacy.options import PRIVACY, PrivacySettings


def site_config(site: SiteFile, announced: RunConfig) -> RunConfig:
    """The configuration that this site trains with.

    Data, device, places on disk, privacy and ceilings are the site's; what is learnt and how is the run's.

    Raises:
        SiteError: the run names a backbone that ``site.yaml`` does not have, or wants knowledge where it names none.
    """
    if announced.backbone not in site.backbones:
        raise SiteError(Refusal.POLICY, "policy: the run's backbone is none of those that this site has")
    if announced.knowledge and not site.knowledge:
        raise SiteError(Refusal.POLICY, "policy: the run wants medical knowledge, and this site names no source of it")
    values = {
        "backbone": _local_backbone(site, announced.backbone),
        "data": site.data.source,
        "partition": "iid",
        "sites": 0,
        "device": site.device,
        "runs_dir": str(site.folder("runs")),
        "run_name": "",
        "resume": "",
        "privacy": privacy_with_ledger(site),
        "out_of_domain": "",
        "knowledge": site.knowledge if announced.knowledge else "",
        "max_norm": min(announced.max_norm, site.policy.most_norm),
    }
    return announced.model_copy(update=values)


def site_settings(site: SiteFile) -> PrivacySettings:
    """What this site has decided about differential privacy. Raises ConfigError for an unknown option or value."""
    return replace(PRIVACY.build(privacy_with_ledger(site))(site.site), out_of_domain=site.out_of_domain)


def privacy_with_ledger(site: SiteFile) -> str:
    """``privacy`` of the site, with its ledger in the site's state, where it outlives every run."""
    spec = parse_spec(site.privacy)
    if spec.name == OFF:
        return OFF
    return str(ComponentSpec(spec.name, {"ledger": str(site.folder("ledger")), **spec.options}))


def _local_backbone(site: SiteFile, name: str) -> str:
    here = site.backbones[name]
    # A component text (`embedded`, `meter(...)`) stays; a path starts where the site file lies.
    local = site.path(here)
    return str(local) if local.exists() else here
