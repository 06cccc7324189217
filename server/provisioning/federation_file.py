"""``federation.yaml``: who takes part, and where the server is."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from fedmedpeft.components import shaped
from fedmedpeft.section import Section
from fedmedpeft.site_names import RULE, is_site_name
from fedmedpeft.written_file import WrittenFile

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Always in the server's certificate: its own commands reach it there."""

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.I | re.A
)
_EXAMPLE = "fl.example.org:443"


class ServerEntry(Section):
    """The server, as hospitals see it and as it is on its own machine."""

    address: str = Field(description="host:port that hospitals dial")
    hosts: list[str] = Field(default_factory=list, description="further names and IP addresses of its certificate")
    port: int = Field(8000, ge=1, le=65535, description="of Flower's SuperLink, on loopback only, behind the proxy")
    proxy: bool = Field(True, description="nginx in front, which shows hospitals the fleet routes and nothing else")

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535 or not _is_host(host) or ":" in host:
            raise ValueError(f"must be host:port with a DNS name or an IPv4 address, e.g. {_EXAMPLE}")
        return address

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not _is_host(host):
                raise ValueError(f"'{host}' is neither a DNS name (without port or wildcard) nor an IP address")
        return hosts

    @model_validator(mode="after")
    def _nobody_reaches_control(self) -> Self:
        if not self.proxy and self.host not in LOOPBACK:
            raise ValueError(
                f"proxy=false leaves everyone who reaches {self.address} in control of the server (Flower's control "
                "routes know no accounts): it is for trials on one machine. Use a loopback address, or proxy: true"
            )
        if self.proxy == (self.port == self.public_port):
            asked = "differ from" if self.proxy else "be"
            raise ValueError(
                f"port={self.port} must {asked} the port of address={self.address} with proxy={self.proxy}"
            )
        return self

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]

    @property
    def public_port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def names(self) -> tuple[str, ...]:
        """All names and addresses of the certificate."""
        return tuple(dict.fromkeys((self.host, *self.hosts, *LOOPBACK)))


class Validity(Section):
    """How long certificates hold, in days."""

    server: int = Field(365, ge=1, le=825)
    authority: int = Field(3650, ge=2, le=7300)

    @model_validator(mode="after")
    def _authority_outlives(self) -> Self:
        if self.server > self.authority:
            raise ValueError(f"server={self.server} must not be more than authority={self.authority}")
        return self


class SiteEntry(Section):
    """One hospital."""

    name: str
    key: str = Field("", description="its join request, where it made its key itself; empty: a key is made here")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not is_site_name(name):
            raise ValueError(f"must be {RULE}")
        return name


class FederationFile(WrittenFile):
    """A checked ``federation.yaml``."""

    kind: ClassVar[str] = "Federation file"

    name: Annotated[str, shaped(r"[A-Za-z][A-Za-z0-9-]{0,31}", "1 to 32 letters, digits and dashes, a letter first")]
    server: ServerEntry
    validity: Validity = Field(default_factory=Validity)
    install: Annotated[
        str, shaped(r"/[A-Za-z0-9_./-]*[A-Za-z0-9_-]", "an absolute path of letters, digits and any of . _ / -")
    ] = Field("/opt/fedmedpeft", description="where kits are put on their machines: systemd and nginx need whole paths")
    sites: list[SiteEntry] = Field(min_length=1)

    @field_validator("sites")
    @classmethod
    def _differ(cls, sites: list[SiteEntry]) -> list[SiteEntry]:
        seen: set[str] = set()
        for site in sites:
            if site.name.casefold() in seen:
                raise ValueError(f"'{site.name}' is there twice (capitals do not count: names become files)")
            seen.add(site.name.casefold())
        return sites


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # What looks like an IPv4 address but is none must not pass as a DNS name.
        return _DNS_NAME.fullmatch(text) is not None and not text.rpartition(".")[2].isdecimal()
    return True
