from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from server.provisioning.kits import revoke_site, rotate_server
from server.provisioning.overview import overview
from tests.server.provisioning.conftest import ODD_NAME

_NOW = datetime.now(UTC)


def test_who_takes_part_and_what_ends_when(made: Path) -> None:
    found = overview(made)
    assert [(site.name, site.key_made) for site in found.sites] == [
        ("Basel", "here"),
        ("Bern", "site"),
        (ODD_NAME, "here"),
    ]
    authority, server = found.certificates
    assert (authority.whose, server.whose) == ("authority", "server")
    assert set(server.names) == {"fl.example.org", "10.1.2.3", "localhost", "127.0.0.1", "::1"}
    assert (authority.days_left, server.days_left) == (3649, 364)
    assert found.warnings == ()
    assert "PRIVATE" not in json.dumps(found.as_json())


@pytest.mark.parametrize(("days", "words"), [(334, None), (336, "ends on"), (366, "has ended on")])
def test_it_warns_a_month_before(made: Path, days: int, words: str | None) -> None:
    warnings = overview(made, _NOW + timedelta(days=days)).warnings
    if words is None:
        assert warnings == ()
    else:
        assert len(warnings) == 1
        assert f"certificate of the server {words}" in warnings[0]
        assert "rotate KITS --server" in warnings[0]


def test_an_authority_that_ends_needs_new_kits(made: Path) -> None:
    warnings = overview(made, _NOW + timedelta(days=3640)).warnings
    assert any("certificate of the authority ends" in text and "new kits" in text for text in warnings)


def test_a_renewal_that_was_interrupted_is_seen(kits: Path) -> None:
    old = (kits / "server" / "server.crt").read_bytes()
    rotate_server(kits, kits / "authority")
    (kits / "server" / "server.crt").write_bytes(old)
    assert "does not belong to server.crt" in overview(kits).warnings[0]
    (kits / "server" / "server.key").unlink()
    assert overview(kits).warnings == ()


def test_revoked_keys_are_shown(kits: Path) -> None:
    old = next(site.fingerprint for site in overview(kits).sites if site.name == "Basel")
    revoke_site(kits, "Basel", "laptop stolen")
    assert [(key.name, key.fingerprint, key.reason) for key in overview(kits).revoked] == [
        ("Basel", old, "laptop stolen")
    ]


def test_a_certificate_that_is_none(kits: Path) -> None:
    (kits / "server" / "server.crt").write_text("nothing")
    with pytest.raises(ConfigError, match=r"server\.crt' is no certificate"):
        overview(kits)
    (kits / "server" / "ca.crt").unlink()
    with pytest.raises(ConfigError, match=r"ca\.crt' cannot be read"):
        overview(kits)
