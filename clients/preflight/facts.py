"""What checks find out and later ones build on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is only loaded by the checks that need it
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from clients.preflight.server_link import ServerLink
    from clients.site_file import SiteFile
    from fedmedpeft.backbones import Backbone
    from fedmedpeft.config import RunConfig
    from fedmedpeft.data import PartitionManifest, Source
    from fedmedpeft.learner import Learner


@dataclass
class Facts:
    """Each attribute without a value is set by one check, and read by those that need that check alone.

    Args:
        path: of the site file.
        run_config: file with the configuration that the coordinator has announced, or None.
        thorough: decode every image rather than a sample.

    Attributes:
        announced: by the coordinator.
        config: of the run as this site would train it; where none was announced, of one with the defaults.
        learner: built around ``backbone``.
        running: whether this site's worker runs already.
    """

    path: Path
    run_config: Path | None = None
    thorough: bool = False
    site: SiteFile = field(init=False)
    key: EllipticCurvePrivateKey = field(init=False)
    running: bool = False
    link: ServerLink = field(init=False)
    announced: RunConfig | None = None
    config: RunConfig = field(init=False)
    source: Source = field(init=False)
    partition: PartitionManifest = field(init=False)
    backbone: Backbone = field(init=False)
    learner: Learner | None = None
