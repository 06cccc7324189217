from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedmedpeft.components import ConfigError
from server.provisioning.authority import Authority, ServerCertificate, certificate_fingerprint, private_text

_HOSTS = ("fl.example.org", "10.1.2.3", "localhost", "127.0.0.1")
_NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make("retina", 3650, _NOW)


@pytest.fixture(scope="module")
def server(authority: Authority) -> ServerCertificate:
    return authority.sign_server("retina", _HOSTS, 365, _NOW)


def _leaf(server: ServerCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificates(server.chain)[0]


def test_the_authority_signs_and_does_nothing_else(authority: Authority) -> None:
    extensions = authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert (authority.certificate.not_valid_after_utc - _NOW).days == 3650


def test_the_server_is_a_server_and_nothing_else(authority: Authority, server: ServerCertificate) -> None:
    leaf = _leaf(server)
    extensions = leaf.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, False, True)
    theirs = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier == theirs.digest
    leaf.verify_directly_issued_by(authority.certificate)
    key = serialization.load_pem_private_key(server.key, password=None)
    assert key.public_key() == leaf.public_key()


def test_names_and_addresses_are_told_apart(server: ServerCertificate) -> None:
    names = _leaf(server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    addresses = [ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("127.0.0.1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses


def test_it_holds_from_an_hour_ago(server: ServerCertificate) -> None:
    leaf = _leaf(server)
    assert leaf.not_valid_before_utc == _NOW - timedelta(hours=1)
    assert leaf.not_valid_after_utc == _NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("host", "when", "good"),
    [
        (x509.DNSName("fl.example.org"), timedelta(minutes=-59), True),
        (x509.IPAddress(ipaddress.ip_address("10.1.2.3")), timedelta(days=364), True),
        (x509.DNSName("other.example.org"), timedelta(0), False),
        (x509.DNSName("fl.example.org"), timedelta(days=366), False),
        (x509.DNSName("fl.example.org"), timedelta(minutes=-61), False),
    ],
)
def test_as_a_strict_verifier_sees_it(
    authority: Authority, server: ServerCertificate, host: x509.DNSName | x509.IPAddress, when: timedelta, good: bool
) -> None:
    store = Store([authority.certificate])
    verifier = PolicyBuilder().store(store).time(_NOW + when).build_server_verifier(host)
    if good:
        assert len(verifier.verify(_leaf(server), [])) == 2
    else:
        with pytest.raises(VerificationError):
            verifier.verify(_leaf(server), [])


def test_another_authority_of_the_same_name_does_not_vouch_for_it(server: ServerCertificate) -> None:
    store = Store([Authority.make("retina", 3650).certificate])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("fl.example.org"))
    with pytest.raises(VerificationError):
        verifier.verify(_leaf(server), [])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_strict_handshake(tmp_path: Path, authority: Authority, server: ServerCertificate, host: str) -> None:
    """With VERIFY_X509_STRICT, which Python 3.13 sets by itself."""
    (tmp_path / "key").write_bytes(server.key)
    (tmp_path / "chain").write_bytes(server.chain)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(tmp_path / "chain", tmp_path / "key")
    theirs = ssl.create_default_context(cadata=authority.certificate_text.decode())
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = threading.Thread(target=lambda: ours.wrap_socket(listening.accept()[0], server_side=True).recv(1))
        answering.start()
        with (
            socket.create_connection(listening.getsockname()) as plain,
            theirs.wrap_socket(plain, server_hostname=host) as tls,
        ):
            assert tls.version() == "TLSv1.3"
            tls.send(b"x")
        answering.join(timeout=10)


def test_a_certificate_never_outlasts_its_authority(authority: Authority) -> None:
    with pytest.raises(ConfigError, match="3651 days would outlast the authority, which holds until"):
        authority.sign_server("retina", _HOSTS, 3651, _NOW)
    assert authority.sign_server("retina", _HOSTS, 3650, _NOW)


def test_an_authority_on_disk(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "ca.crt").write_bytes(authority.certificate_text)
    with pytest.raises(ConfigError, match=r"ca\.key' cannot be read: No such file.*--authority"):
        Authority.load(tmp_path)
    (tmp_path / "ca.key").write_bytes(authority.key_text)
    assert Authority.load(tmp_path).certificate == authority.certificate
    (tmp_path / "ca.key").write_bytes(private_text(Authority.make("other", 10).key))
    with pytest.raises(ConfigError, match=r"ca\.key does not belong to ca\.crt"):
        Authority.load(tmp_path)
    (tmp_path / "ca.key").write_text("nothing")
    with pytest.raises(ConfigError, match="ca.key or ca.crt is damaged"):
        Authority.load(tmp_path)


def test_the_fingerprint_is_written_as_openssl_writes_it(authority: Authority) -> None:
    groups = certificate_fingerprint(authority.certificate).split(":")
    assert len(groups) == 32
    assert all(len(group) == 2 and group == group.upper() for group in groups)


def test_long_names_fit(authority: Authority) -> None:
    assert Authority.make("x" * 100, 10).certificate.subject
