"""Kits with real processes: Flower's SuperLink and SuperNodes over TLS on loopback, with nginx in front."""

from __future__ import annotations

import http.client
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.processes.control import list_sites, register_sites
from server.processes.kit import ServerKit
from server.provisioning.kits import revoke_site
from tests.server.provisioning.flower_here import free_ports, make_kits, nginx, superlink, supernode, wait_until

pytestmark = pytest.mark.slow

_needs_nginx = pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="needs nginx")


@dataclass(frozen=True)
class _Trial:
    folder: Path
    kits: Path
    public: int
    inner: int

    @property
    def kit(self) -> Path:
        return self.folder / "server"

    def status(self, name: str) -> str:
        return next(site.status for site in list_sites(ServerKit.open(self.kit)) if site.name == name)

    def apply(self) -> list[str]:
        """Have the server read its kit again; what it says."""
        said: list[str] = []
        register_sites(ServerKit.open(self.kit), said.append)
        return said


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Trial]:
    folder = tmp_path_factory.mktemp("trial")
    kits, public, inner = make_kits(folder, ["Basel", "Bern", "Genf"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        with superlink(folder / "server", inner):
            trial = _Trial(folder, kits, public, inner)
            # Genf has a kit, but the server is not told of its key.
            (trial.kit / "sites" / "Genf.pub").unlink()
            assert trial.apply() == ["site 'Basel': registered", "site 'Bern': registered"]
            yield trial


@pytest.fixture(scope="module")
def proxy(trial: _Trial) -> Iterator[None]:
    with nginx(trial.kit, trial.folder / "nginx", trial.public):
        yield


@_needs_nginx
def test_a_site_takes_part_through_the_proxy_until_its_key_is_revoked(trial: _Trial, proxy: None) -> None:
    kit, home = trial.kits / "sites" / "Basel", trial.folder / "basel"
    where = f"127.0.0.1:{trial.public}"
    with supernode(home, where, ca=kit / "ca.crt", key=kit / "site.key", runtime_port=free_ports(1)[0]) as basel:
        wait_until(lambda: trial.status("Basel") == "online" or basel.poll() is not None, "Basel is online")
        assert basel.poll() is None, (home / "supernode.log").read_text()
        revoke_site(trial.kits, "Basel", "trial")
        assert trial.apply() == ["site 'Basel': its revoked key was removed"]
        wait_until(lambda: basel.poll() is not None, "Basel is shut out")
    assert trial.apply() == []
    assert {line.split()[6] for line in (trial.folder / "nginx" / "access.log").read_text().splitlines()} >= {
        "/v1/fleet/activate-node",
        "/v1/fleet/pull-messages",
    }


def test_a_site_with_another_authority_or_another_key_is_kept_out(trial: _Trial) -> None:
    site, where = trial.kits / "sites", f"127.0.0.1:{trial.inner}"
    others, _, _ = make_kits(trial.folder / "others", ["Bern"])
    ports = free_ports(2)
    wrong_ca = {"ca": others / "sites" / "Bern" / "ca.crt", "key": site / "Bern" / "site.key"}
    wrong_key = {"ca": site / "Bern" / "ca.crt", "key": site / "Genf" / "site.key"}
    with (
        supernode(trial.folder / "wrong-ca", where, **wrong_ca, runtime_port=ports[0]) as first,
        supernode(trial.folder / "wrong-key", where, **wrong_key, runtime_port=ports[1]) as second,
    ):
        wait_until(lambda: first.poll() is not None and second.poll() is not None, "both are refused")
    assert "CERTIFICATE_VERIFY_FAILED" in (trial.folder / "wrong-ca" / "supernode.log").read_text()
    assert "[code: 2004] Failed to activate" in (trial.folder / "wrong-key" / "supernode.log").read_text()
    assert trial.status("Bern") == "registered"


@_needs_nginx
@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet/%252e%252e/control/list-nodes",
        "//v1/control/list-nodes",
        "/v1/fleet//../control/list-nodes",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_the_proxy_shows_nothing_but_the_fleet(trial: _Trial, proxy: None, path: str) -> None:
    for method in ("GET", "POST"):
        assert _ask(trial, trial.public, method, path) == 404


@_needs_nginx
def test_the_proxy_lets_fleet_and_health_through(trial: _Trial, proxy: None) -> None:
    assert _ask(trial, trial.public, "GET", "/health") == 200
    assert _ask(trial, trial.public, "POST", "/health") == 403
    assert _ask(trial, trial.public, "GET", "/v1/fleet/pull-messages") == 403
    # A piece of a tensor comes as far as the SuperLink (these bytes are no message of Flower's); more never does.
    assert _ask(trial, trial.inner, "POST", "/v1/fleet/push-object", bytes(6 * 2**20)) == 400
    assert _ask(trial, trial.public, "POST", "/v1/fleet/push-object", bytes(6 * 2**20)) == 400
    assert _ask(trial, trial.public, "POST", "/v1/fleet/push-object", bytes(9 * 2**20)) == 413


def _ask(trial: _Trial, port: int, method: str, path: str, body: bytes | None = None) -> int:
    """The status of one request, verified as strictly as Python can."""
    context = ssl.create_default_context(cafile=str(trial.kit / "ca.crt"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    try:
        connection.request(method, path, body=body, headers={"Content-Type": "application/protobuf"})
        return connection.getresponse().status
    except BrokenPipeError:
        return connection.getresponse().status
    finally:
        connection.close()
