"""What a server names of this site's disk: nothing, whatever option it hides in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fedmedpeft.components import parse_composition
from fedmedpeft.config import RunConfig

_COMPOSED = ("method", "task", "strategy", "client-privacy")
_PATH_OPTIONS = frozenset({"answers", "checkpoint", "file", "hpo", "ledger", "path", "reference", "root"})
_LOOKS_LIKE_PATH = re.compile(r"[/\\~\0]|^\.|\.\w{1,11}$")
_REVISION = re.compile(r"[\w.-]*")
_HASH = re.compile(r"[0-9a-f]*")


def named_paths(announced: RunConfig) -> list[str]:
    """Keys and options of a run that name a file or a directory, or could, such as ``task: answers``.

    A site's own keys (:data:`clients.egress.run_hash.SITE_KEYS`), ``knowledge`` and ``backbone`` are not looked at:
    what a server writes there is replaced by what ``site.yaml`` says, and used nowhere else.
    """
    return list(_found(announced))


def _found(announced: RunConfig) -> Iterator[str]:
    values = announced.to_mapping()
    if announced.start_from:
        yield "start-from"
    if not _REVISION.fullmatch(announced.backbone_revision):
        yield "backbone-revision"
    if not _HASH.fullmatch(announced.backbone_fingerprint):
        yield "backbone-fingerprint"
    for key in _COMPOSED:
        for spec in parse_composition(str(values[key])):
            for option, value in spec.options.items():
                if isinstance(value, str) and value and (option in _PATH_OPTIONS or _LOOKS_LIKE_PATH.search(value)):
                    yield f"{key}: {option}"
