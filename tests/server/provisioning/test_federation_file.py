from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedmedpeft.components import ConfigError
from server.provisioning.federation_file import FederationFile

_GOOD = {
    "name": "retina",
    "server": {"address": "fl.example.org:443", "hosts": ["10.1.2.3", "2001:db8::1"]},
    "sites": [{"name": "Basel"}, {"name": "Bern", "key": "bern/join-request.json"}],
}


def _load(folder: Path, content: object) -> FederationFile:
    path = folder / "federation.yaml"
    path.write_text(yaml.safe_dump(content) if not isinstance(content, str) else content)
    return FederationFile.load(path)


def test_a_good_file_and_its_defaults(tmp_path: Path) -> None:
    file = _load(tmp_path, _GOOD)
    assert file.server.names == ("fl.example.org", "10.1.2.3", "2001:db8::1", "localhost", "127.0.0.1", "::1")
    assert (file.server.public_port, file.server.port, file.server.proxy) == (443, 8000, True)
    assert (file.validity.server, file.validity.authority, file.install) == (365, 3650, "/opt/fedmedpeft")
    assert [(site.name, site.key) for site in file.sites] == [("Basel", ""), ("Bern", "bern/join-request.json")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"servr": {}}, "no key 'servr'. Did you mean 'server'"),
        ({"server": {"adress": "x:1"}}, "no key 'server.adress'. Did you mean 'address'"),
        ({"sites": [{"name": "Basel"}, {"nam": "Bern"}]}, "no key 'sites.1.nam'. Did you mean 'name'"),
        ({"validity": {"servers": 3}}, "no key 'validity.servers'. Did you mean 'server'"),
        ({"name": "a b"}, "name='a b'"),
        ({"sites": []}, "sites="),
        ({"sites": [{"name": "Basel"}, {"name": "basel"}]}, "'basel' is there twice"),
        ({"sites": [{"name": "../etc"}]}, "sites.0.name='../etc': must be 1 to 64"),
        ({"server": {}}, "'server.address' is missing"),
        ({"validity": {"server": 300, "authority": 200}}, "server=300 must not be more than authority=200"),
        ({"validity": {"server": "365"}}, "validity.server='365'"),
        ({"install": "opt/x"}, "install='opt/x'"),
        ({"install": "/opt/a b"}, "install='/opt/a b'"),
        ({"install": "/opt/x;"}, "install='/opt/x;'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        _load(tmp_path, _GOOD | change)


@pytest.mark.parametrize(
    "address",
    [
        "fl.example.org",
        "fl.example.org:0",
        "fl.example.org:66000",
        "https://x:443",
        "::1:443",
        "a b:1",
        ":1",
        "256.1.1.1:4",
    ],
)
def test_addresses_that_cannot_be(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="must be host:port with a DNS name or an IPv4 address"):
        _load(tmp_path, _GOOD | {"server": {"address": address}})


@pytest.mark.parametrize("host", ["*.example.org", "fl.example.org:443", "", "1.2.3", "ex ample", "a;b", "x\u212a.org"])
def test_hosts_that_cannot_be(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="neither a DNS name"):
        _load(tmp_path, _GOOD | {"server": {"address": "a.example:1", "hosts": [host]}})


def test_without_a_proxy_only_on_one_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leaves everyone who reaches fl.example.org:443 in control"):
        _load(tmp_path, _GOOD | {"server": {"address": "fl.example.org:443", "port": 443, "proxy": False}})
    alone = {"address": "127.0.0.1:9000", "port": 9000, "proxy": False}
    assert not _load(tmp_path, _GOOD | {"server": alone}).server.proxy
    for server in (alone | {"port": 9001}, alone | {"proxy": True}):
        with pytest.raises(ConfigError, match="the port of address=127.0.0.1:9000"):
            _load(tmp_path, _GOOD | {"server": server})


def test_what_is_no_federation_file(tmp_path: Path) -> None:
    for content, message in (("- a", "Expected lines of key: value"), ("a: [", "line 1: ")):
        with pytest.raises(ConfigError, match=message):
            _load(tmp_path, content)
    with pytest.raises(ConfigError, match="cannot be read"):
        FederationFile.load(tmp_path / "none.yaml")
