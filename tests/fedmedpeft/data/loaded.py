"""A source divided among sites, and one of them loaded."""

from __future__ import annotations

from typing import Any

from fedmedpeft.data.partition import PartitionManifest, make_partition
from fedmedpeft.data.site_data import SiteData, load_site


def split_up(source: Any, spec: str = "iid", sites: int = 2, val: float = 0.2, minimum: int = 0) -> PartitionManifest:
    return make_partition(
        source, spec, sites=sites, seed=0, val_fraction=val, test_fraction=0.2, min_train_per_site=minimum
    )


def load(source: Any, manifest: PartitionManifest, site: str = "site-0", size: int = 4) -> SiteData:
    return load_site(source, manifest, site, image_size=size, interpolation="bilinear")
