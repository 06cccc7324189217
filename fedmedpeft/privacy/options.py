"""What a site protects its data with: ``off``, ``required(epsilon=8)``, ``auto(...)``, or a file with one for each."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedmedpeft.components import ConfigError, NoOptions, Options, Registry, explain, parse_spec, suggest
from fedmedpeft.config import OFF, RunConfig
from fedmedpeft.privacy.terms import LEAST_NOISE, MOST_NOISE, Accounting

Mode = Literal["off", "required", "auto"]


class DpOptions(Options):
    """Options of ``required``: a budget, and how it is spent."""

    epsilon: float = Field(8.0, gt=0, allow_inf_nan=False, description="budget of the site's data, over all its runs")
    noise_multiplier: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="noise relative to the clipping norm; 0: the least with which the whole run keeps to the budget",
    )
    delta: float = Field(0.0, ge=0, lt=1, description="delta of the budget; 0: a tenth of 1 / units")
    clip: float = Field(1.0, gt=0, allow_inf_nan=False, description="largest gradient norm that one unit may have")
    unit: Literal["auto", "record", "image", "patient"] = Field(
        "auto", description="whom epsilon protects; auto: the patient, or the image, where the data says who that is"
    )
    records_per_unit: int = Field(4, ge=1, description="most records of one unit in one step")
    physical_batch: int = Field(64, ge=1, description="most records that are in memory at once")
    accounting: Accounting = Field("rdp", description="rdp, or prv (tighter, slower)")
    ledger: str = Field(
        "",
        description="directory of the sites' privacy ledgers; empty: in the run's own, where the next run starts anew",
    )
    report: bool = Field(True, description="tell the server what has been spent")

    @field_validator("noise_multiplier")
    @classmethod
    def _is_noise(cls, value: float) -> float:
        if value and not LEAST_NOISE <= value <= MOST_NOISE:
            raise ValueError(f"must lie between {LEAST_NOISE:g} and {MOST_NOISE:g}, or be 0: as the budget needs")
        return value


class AutoOptions(DpOptions):
    """Options of ``auto``: as of ``required``, and what out of the domain means."""

    reference: str = Field("", description="file of the domain's feature statistics; empty: the backbone's own")
    threshold: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="largest distance within the domain; 0: as the reference says"
    )


class FileOptions(Options):
    """Options of ``file``: a TOML file with ``default``, ``out-of-domain`` (names) and a table ``[sites]``."""

    path: str = Field(min_length=1, description="TOML file with a setting for each site")


@dataclass(frozen=True)
class PrivacySettings:
    """What one site has decided.

    Attributes:
        mode: ``off``, ``required``, or ``auto``: on where the site is out of the backbone's domain.
        options: how; None where it is off.
        out_of_domain: the site says that it is.
    """

    mode: Mode
    options: DpOptions | None = None
    out_of_domain: bool = False


OfSite = Callable[[str], PrivacySettings]
"""Settings by the site's name."""

PRIVACY: Registry[OfSite] = Registry("privacy")


@PRIVACY.register("off")
def _off(options: NoOptions) -> OfSite:
    return lambda site: PrivacySettings("off")


@PRIVACY.register("required", DpOptions)
def _required(options: DpOptions) -> OfSite:
    return lambda site: PrivacySettings("required", options)


@PRIVACY.register("auto", AutoOptions)
def _auto(options: AutoOptions) -> OfSite:
    return lambda site: PrivacySettings("auto", options)


@PRIVACY.register("file", FileOptions)
def _from_file(options: FileOptions) -> OfSite:
    path = Path(options.path).expanduser()
    file = _read(path)
    for spec in map(parse_spec, (file.default, *file.sites.values())):
        if spec.name == "file":
            raise ConfigError(f"privacy file '{path}' names another file, '{spec}'. Write the setting itself.")
    built = {site: PRIVACY.build(text) for site, text in file.sites.items()}
    default = PRIVACY.build(file.default)

    def of_site(site: str) -> PrivacySettings:
        return replace(built.get(site, default)(site), out_of_domain=site in file.out_of_domain)

    return of_site


class _SitesFile(BaseModel):
    """``privacy.toml``."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    default: str = OFF
    out_of_domain: list[str] = Field(default_factory=list, alias="out-of-domain")
    sites: dict[str, str] = Field(default_factory=dict)


def site_privacy(config: RunConfig, site: str) -> PrivacySettings:
    """What ``config`` says for ``site``.

    Raises:
        ConfigError: an unknown kind or option, a bad value, or a file that cannot be read.
    """
    settings = PRIVACY.build(config.privacy)(site)
    tagged = {name.strip() for name in config.out_of_domain.split(",")}
    return replace(settings, out_of_domain=settings.out_of_domain or site in tagged)


def check_privacy(config: RunConfig) -> None:
    """Read all that the configuration says of privacy at sites. Raises ConfigError as :func:`site_privacy` does."""
    PRIVACY.build(config.privacy)
    kind = parse_spec(config.privacy).name
    if all_private(config) and config.mode != "federated":
        raise ConfigError(
            f"privacy='{config.privacy}' is for what leaves a site, and mode='{config.mode}' trains references, of "
            "which nothing does but scores. Set mode='federated', or privacy='off'."
        )
    if config.out_of_domain and kind in ("off", "required"):
        raise ConfigError(
            f"out-of-domain='{config.out_of_domain}' means nothing with privacy='{config.privacy}'. Set "
            "privacy='auto(...)', or leave it out."
        )


def check_named_sites(config: RunConfig, sites: Sequence[str]) -> None:
    """Refuse settings for a site that does not exist: the one that was meant would train without privacy.

    Raises:
        ConfigError: names it, and the nearest of ``sites``.
    """
    spec = parse_spec(config.privacy)
    named = {name.strip(): "out-of-domain" for name in config.out_of_domain.split(",") if name.strip()}
    if spec.name == "file":
        path = str(spec.options["path"])
        file = _read(Path(path).expanduser())
        named |= dict.fromkeys((*file.out_of_domain, *file.sites), f"privacy file '{path}'")
    for name, where in named.items():
        if name not in sites:
            raise ConfigError(
                f"{where} has a setting for '{name}', which is no site.{suggest(name, sites)} The sites are: "
                f"{', '.join(sites)}."
            )


def all_private(config: RunConfig) -> bool:
    """Whether every site must train with privacy, so that what cannot is refused before any is asked."""
    return parse_spec(config.privacy).name == "required"


def _read(path: Path) -> _SitesFile:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"privacy file '{path}' cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"privacy file '{path}' is not TOML: {error}.") from error
    known = ("default", "out-of-domain", "sites")
    for key in values:
        if key not in known:
            raise ConfigError(
                f"privacy file '{path}' has no key '{key}'.{suggest(key, known)} Known: {', '.join(known)}."
            )
    try:
        return _SitesFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"privacy file '{path}': {explain(error)}.") from None
