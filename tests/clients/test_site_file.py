"""What a person may write wrong in ``site.yaml``: none of it may be taken for something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError

_GOOD = """\
site: Basel
server: {address: "fl.example.org:443", ca-certificate: ca.crt, key: site.key}
data: {source: "manifest(path=labels.csv)", classes: [no, yes]}
"""


def _load(folder: Path, text: str) -> SiteFile:
    (folder / "site.yaml").write_text(text, encoding="utf-8")
    return SiteFile.load(folder / "site.yaml")


def test_a_short_file(tmp_path: Path) -> None:
    site = _load(tmp_path, _GOOD + "privacy: off\n")
    assert (site.site, site.data.classes, site.privacy) == ("Basel", ("no", "yes"), "off")
    assert site.folder("ledger") == tmp_path / "state" / "ledger"


def test_a_second_section_never_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """The rule of the first would be gone without a word."""
    with pytest.raises(ConfigError, match="line 5: 'policy' is there twice"):
        _load(tmp_path, _GOOD + "policy: {dry-run: true}\npolicy: {references: true}\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("polcy: {}", r"has no key 'polcy'\. Did you mean 'policy'\?"),
        ("policy: {dryrun: true}", r"has no key 'policy\.dryrun'\. Did you mean 'dry-run'\?"),
        ("directory: /", "has no key 'directory'"),
        ("policy: {dry-run: yes}", "policy.dry-run='yes': must be true or false"),
        ("policy: strict", "policy='strict': must hold key: value"),
        ("state: 7", "state=7: must be text; .* put it in quotes"),
        ("device: gpu", "device='gpu': must be auto, cpu, cuda or cuda:N"),
        ("privacy: required(epsilon=8", r"privacy='required\(epsilon=8': .* is not a component.*\)\.$"),
        ("privacy: always", "privacy='always': must be off, "),
        ("policy: {privacy-required: true}", "needs privacy='required"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _load(tmp_path, f"{_GOOD}{line}\n")


@pytest.mark.parametrize("address", ["fl.example.org", "https://fl.example.org:443", "fl.example.org:443\\n"])
def test_addresses_are_host_and_port(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"server.address=.*: must be host:port, such as"):
        _load(tmp_path, _GOOD.replace("fl.example.org:443", address))
