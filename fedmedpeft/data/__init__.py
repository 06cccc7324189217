"""The data room: sources of labelled images, partitions over sites, and one site's tensors.

``source`` and ``sources/`` say what images there are, ``partition`` and ``partitioners/`` say which site has which, and
``site_data`` decodes one site's share. Only ``site_data`` needs torch, so it is imported from its own module.
"""

from __future__ import annotations

from fedmedpeft.data import sources  # noqa: F401  (importing it registers the sources)
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import PARTITIONERS, PartitionManifest, make_partition
from fedmedpeft.data.source import SOURCES, ImageTable, Source, build_source

__all__ = [
    "PARTITIONERS",
    "SOURCES",
    "DataError",
    "ImageTable",
    "PartitionManifest",
    "Source",
    "build_source",
    "make_partition",
]
