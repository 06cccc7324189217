from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.privacy.options import (
    AutoOptions,
    DpOptions,
    all_private,
    check_named_sites,
    check_privacy,
    site_privacy,
)


def _config(**values: object) -> RunConfig:
    return RunConfig.from_mapping({key.replace("_", "-"): value for key, value in values.items()})


def test_off_by_default() -> None:
    settings = site_privacy(_config(), "a")
    assert (settings.mode, settings.options, settings.out_of_domain) == ("off", None, False)
    assert not all_private(_config())


def test_required_is_for_every_site() -> None:
    config = _config(privacy="required(epsilon=3, unit=patient)")
    assert site_privacy(config, "a").options == DpOptions(epsilon=3.0, unit="patient")
    assert all_private(config)


def test_auto_knows_who_is_out_of_the_domain() -> None:
    config = _config(privacy="auto(threshold=0.5)", out_of_domain="a, b")
    assert [site_privacy(config, site).out_of_domain for site in ("a", "b", "c")] == [True, True, False]
    assert isinstance(site_privacy(config, "c").options, AutoOptions)
    assert not all_private(config)


def test_a_file_has_a_setting_for_each_site(tmp_path: Path) -> None:
    file = tmp_path / "privacy.toml"
    file.write_text('default = "off"\nout-of-domain = ["c"]\n[sites]\na = "required(epsilon=1)"\nc = "auto"\n')
    config = _config(privacy=f"file(path='{file}')")
    found = {site: site_privacy(config, site) for site in "abc"}
    assert {site: settings.mode for site, settings in found.items()} == {"a": "required", "b": "off", "c": "auto"}
    assert found["a"].options == DpOptions(epsilon=1.0)
    assert found["c"].out_of_domain
    assert not all_private(config)


@pytest.mark.parametrize(
    ("privacy", "says"),
    [
        ("required(epsilon=0)", "epsilon"),
        ("required(epsilon=-1)", "epsilon"),
        ("required(delta=1)", "delta"),
        ("required(clip=0)", "clip"),
        ("required(noise_multiplier=1e-3)", "between 0.01"),
        ("required(epsilom=3)", "Did you mean 'epsilon'"),
        ("requires", "Did you mean 'required'"),
        ("required(accounting=gdp)", "accounting"),
        ("off(epsilon=1)", "no option 'epsilon'"),
        ("required(reference='x.json')", "no option 'reference'"),
    ],
)
def test_bad_settings(privacy: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_privacy(_config(privacy=privacy))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default = ", "not TOML"),
        ('defaults = "off"', "Did you mean 'default'"),
        ("default = 3", "default=3"),
        ('[sites]\na = "requred"', "Did you mean 'required'"),
        ("default = \"file(path='other.toml')\"", "names another file"),
    ],
)
def test_bad_files(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "privacy.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        check_privacy(_config(privacy=f"file(path='{file}')"))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        check_privacy(_config(privacy="file(path='nowhere.toml')"))


@pytest.mark.parametrize("privacy", ["off", "required"])
def test_a_tag_that_means_nothing(privacy: str) -> None:
    with pytest.raises(ConfigError, match="means nothing"):
        check_privacy(_config(privacy=privacy, out_of_domain="a"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sites]\nlisbn = 'required'", "'lisbn', which is no site. Did you mean 'lisbon'"),
        ("out-of-domain = ['Lisbon']", "'Lisbon', which is no site. Did you mean 'lisbon'"),
        ("[sites]\nlisbon = 'required'", ""),
    ],
)
def test_a_setting_for_a_site_that_does_not_exist(text: str, says: str, tmp_path: Path) -> None:
    """Its owner would believe that the site trains with privacy."""
    file = tmp_path / "privacy.toml"
    file.write_text(text)
    config = _config(privacy=f"file(path='{file}')")
    if not says:
        check_named_sites(config, ("lisbon", "munich"))
        return
    with pytest.raises(ConfigError, match=says):
        check_named_sites(config, ("lisbon", "munich"))


def test_a_tag_of_a_site_that_does_not_exist() -> None:
    config = _config(privacy="auto", out_of_domain="munich, porto")
    with pytest.raises(ConfigError, match="out-of-domain has a setting for 'porto'"):
        check_named_sites(config, ("lisbon", "munich"))
    check_named_sites(_config(privacy="auto", out_of_domain="munich, "), ("lisbon", "munich"))
