"""``site.yaml``: all that a hospital decides for itself, in one file that the server never sees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from clients.policy_section import PolicySection
from fedmedpeft.components import parse_spec, shaped
from fedmedpeft.config import OFF, Device
from fedmedpeft.section import Names, Section
from fedmedpeft.site_names import RULE, is_site_name
from fedmedpeft.written_file import WrittenFile

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path: Linux has room for 108, the last of them is a zero."""
STATE_FOLDERS = ("runs", "ledger", "audit", "dry-run", "logs", "flower")


class ServerSection(Section):
    """Where the federation's server is, and how this site proves who it is."""

    address: Annotated[str, shaped(r"[^\s/:]+:\d{1,5}", "host:port, such as fl.example.org:443")] = Field(
        description="host:port of the server; connections go out only"
    )
    ca_certificate: str = Field(min_length=1, description="certificate (PEM) of the authority that signed the server's")
    key: str = Field(min_length=1, description="this site's private key (OpenSSH, elliptic curve P-384), mode 0600")


class DataSection(Section):
    """What this site trains on."""

    source: str = Field(
        min_length=1, description="data source of this site alone, e.g. manifest(path=/data/labels.csv)"
    )
    rows_of: str = Field(
        "", description="value of the data's site column whose rows are this site's; empty: all rows are"
    )
    classes: Names = Field(
        (), description="all labels of the federation, sorted; without them no image is classified here"
    )

    @field_validator("classes")
    @classmethod
    def _differ(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if list(classes) != sorted(set(classes)):
            raise ValueError("must be sorted and differ from one another")
        return classes


class WorkerSection(Section):
    """The two processes at the site: the worker, which has the data, and Flower's, which have the network."""

    socket: str = Field("worker.sock", min_length=1, description="Unix socket between them, below state")
    flower_user: str = Field(
        "", description="user that Flower's processes run as (needs a start as root); empty: the same as the worker"
    )
    runtime_port: int = Field(9094, ge=1, le=65535, description="loopback port of Flower's SuperNode for its own tasks")
    threads: int = Field(0, ge=0, description="CPU threads for training; 0: as many as there are cores")
    longest_request: int = Field(
        86_400,
        ge=0,
        description="seconds that one request may last; then it is refused, and the worker ends and is started again. "
        "Privacy that was paid for it stays paid. 0: any time",
    )


class SiteFile(WrittenFile):
    """A checked ``site.yaml``.

    Attributes:
        directory: where the file lies; its relative paths start there.
    """

    kind: ClassVar[str] = "Site file"

    site: str
    server: ServerSection
    data: DataSection
    backbones: dict[str, str] = Field(
        default_factory=lambda: {"embedded": "embedded"},
        description="name that runs use -> what it is here: 'embedded' or a local directory",
    )
    knowledge: str = Field("", description="this site's own knowledge source, for runs that ask for one")
    device: Device = Field("auto", description="auto, cpu, cuda or cuda:N")
    state: str = Field("state", min_length=1, description="directory of what must last: stores, ledger, audit log")
    privacy: str = Field(OFF, description="off, required(epsilon=8, ...) or auto(epsilon=8, ...)")
    out_of_domain: bool = Field(False, description="this site's images are unlike those of the backbone (for auto)")
    policy: PolicySection = Field(default_factory=PolicySection)
    worker: WorkerSection = Field(default_factory=WorkerSection)
    directory: Path = Field(default_factory=Path.cwd, exclude=True)

    @classmethod
    def known_of(cls, path: Path) -> dict[str, Any]:
        return {"directory": path.absolute().parent}

    @field_validator("site")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not is_site_name(name):
            raise ValueError(f"'{name}' is not {RULE}")
        return name

    @field_validator("privacy")
    @classmethod
    def _known_kind(cls, privacy: str) -> str:
        if parse_spec(privacy).name not in (OFF, "required", "auto"):
            raise ValueError("must be off, required(...) or auto(...)")
        return privacy

    @model_validator(mode="after")
    def _privacy_goes_together(self) -> Self:
        if self.policy.privacy_required and parse_spec(self.privacy).name != "required":
            raise ValueError(f"policy.privacy-required needs privacy='required(...)', not '{self.privacy}'")
        return self

    def path(self, text: str) -> Path:
        """A path of the file, absolute."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else self.directory / path

    @property
    def state_directory(self) -> Path:
        return self.path(self.state)

    def folder(self, name: str) -> Path:
        """One of :data:`STATE_FOLDERS`."""
        assert name in STATE_FOLDERS, name
        return self.state_directory / name

    @property
    def socket(self) -> Path:
        return self.state_directory / self.worker.socket

    @property
    def audit_log(self) -> Path:
        return self.folder("audit") / "audit-log.jsonl"
