"""Keyed names, and the key's file."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom.identity import Identity, SiteKey, identify
from fedmedpeft.data.dicom.reasons import Skipped
from tests.fedmedpeft.data.dicom.dicom_files import made

_KEY = SiteKey(b"k" * 32)


def _whose(**tags: Any) -> Identity:
    return identify(made(**{"SOPInstanceUID": "1.5", **tags}), _KEY)


def test_names_are_hmac_sha256() -> None:
    expected = hmac.new(b"k" * 32, b"image\x001.5", hashlib.sha256).hexdigest()[:32]
    assert _whose().image == expected
    assert identify(made(SOPInstanceUID="1.5"), SiteKey(b"l" * 32)).image != expected


@pytest.mark.parametrize("spelling", [" ab-12 ", "AB^12", "a b 1 2", "\uff21\uff22\uff11\uff12"])
def test_one_patient_in_many_spellings(spelling: str) -> None:
    assert _whose(PatientID=spelling, SpecificCharacterSet="ISO_IR 192").patient == _whose(PatientID="AB12").patient


def test_the_same_number_of_another_issuer_is_another_patient() -> None:
    here, there = _whose(IssuerOfPatientID="Bern"), _whose(IssuerOfPatientID="Basel")
    assert here.patient != there.patient
    assert here.number == there.number
    assert here.patient == _whose(IssuerOfPatientID=" BERN").patient
    # Issuer and number are not run together.
    assert (
        _whose(IssuerOfPatientID="1", PatientID="23").patient != _whose(IssuerOfPatientID="12", PatientID="3").patient
    )


@pytest.mark.parametrize("missing", [None, "", "--", "?"])
def test_without_a_patient_id_a_study_is_a_patient(missing: str | None) -> None:
    first, same = _whose(PatientID=missing), _whose(PatientID=missing, SOPInstanceUID="1.6")
    other = _whose(PatientID=missing, StudyInstanceUID="1.2.4")
    assert first.patient == same.patient != other.patient
    assert first.number == ""
    alone = _whose(PatientID=missing, StudyInstanceUID=None)
    assert alone.patient != _whose(PatientID=missing, StudyInstanceUID=None, SOPInstanceUID="1.6").patient


def test_without_a_uid_it_is_skipped() -> None:
    with pytest.raises(Skipped, match="UID"):
        _whose(SOPInstanceUID=None)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    made_now = SiteKey.open(path, make=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SiteKey.open(path, make=False).name("a", "b") == made_now.name("a", "b")
    assert made_now.name("a", "b") != SiteKey.open(tmp_path / "other.key", make=True).name("a", "b")


def test_keys_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    with pytest.raises(ConfigError, match="does not exist"):
        SiteKey.open(path, make=False)
    SiteKey.open(path, make=True)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        SiteKey.open(path, make=False)
    path.chmod(0o600)
    path.write_text("hunter2\n")
    with pytest.raises(ConfigError, match="64 hexadecimal") as caught:
        SiteKey.open(path, make=False)
    assert "hunter2" not in str(caught.value)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ConfigError, match="plain file"):
        SiteKey.open(tmp_path / "link", make=True)
