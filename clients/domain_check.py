"""Whether a site's images lie out of the backbone's domain, for `privacy='auto(...)'`."""

from __future__ import annotations

from pathlib import Path

from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.learner import load_configured
from fedmedpeft.privacy.domain import FeatureReference, Verdict, frozen_features, judge, shipped_reference
from fedmedpeft.privacy.options import AutoOptions, PrivacySettings


def domain_verdict(settings: PrivacySettings, config: RunConfig, data: SiteData) -> Verdict:
    """Compare the training images of a site with the reference that its settings name, or that the backbone brings.

    The backbone is loaded for this alone: what trains has methods inserted by now, and other features.

    Raises:
        ConfigError: the reference cannot be read, or is of another backbone.
    """
    assert isinstance(settings.options, AutoOptions)
    backbone = load_configured(config)
    own = settings.options.reference
    reference = FeatureReference.load(Path(own).expanduser()) if own else shipped_reference(backbone)
    return judge(frozen_features(backbone, data.train), reference, settings.options.threshold, backbone.fingerprint)
