"""A hospital's site.yaml, key and certificate, for tests."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.tls_kit import make_site_key


def write_site(directory: Path, **worker: object) -> Path:
    """``site.yaml`` in ``directory``, with a key and a file that stands for the authority's certificate."""
    directory.mkdir(parents=True, exist_ok=True)
    make_site_key(directory / "site.key")
    (directory / "ca.crt").write_text("a certificate")
    (directory / "images").mkdir(exist_ok=True)
    (directory / "images" / "labels.csv").write_text("image,label\n")
    content = {
        "site": "Ulm",
        "server": {"address": "fl.example.org:443", "ca-certificate": "ca.crt", "key": "site.key"},
        "data": {"source": "manifest(path=images/labels.csv)"},
        "worker": worker,
    }
    (directory / "site.yaml").write_text(yaml.safe_dump(content))
    return directory / "site.yaml"
