"""Whole imports: what is written, what a second call does, and that nobody's name gets out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from fedmedpeft.components import ConfigError
from fedmedpeft.data import build_source
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.identity import NO_PATIENT
from fedmedpeft.data.dicom.import_folder import OPEN_FOLDER
from fedmedpeft.data.dicom.importing import TWO_ISSUERS, ImportSettings
from fedmedpeft.data.dicom.labels import LabelTable, OneLabel
from fedmedpeft.data.errors import DataError
from fedmedpeft.file_lock import locked
from tests.fedmedpeft.data.dicom.dicom_files import RAMP, imported, made, manifest, save


def _save(tmp_path: Path, name: str, dataset: Dataset) -> Path:
    return save(dataset, tmp_path / "in" / name)


def test_the_manifest_is_what_the_source_reads(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(PatientID="P1"))
    _save(tmp_path, "deep/er/b", made(PatientID="p 1"))
    _save(tmp_path, "c.dcm", made(np.stack([RAMP, RAMP]), NumberOfFrames=2, PatientID="P2"))
    report = imported(tmp_path)
    assert (report.seen, report.imported, report.images, report.patients, report.largest_patient) == (3, 3, 4, 2, 2)
    source = build_source(f"manifest(path='{tmp_path}/out/manifest.csv')")
    assert len(source.table) == 4
    assert source.table.patients is not None
    assert len(set(source.table.patients)) == 2
    assert np.asarray(source.image(0))[..., 0].tolist() == RAMP.tolist()


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made())
    _save(tmp_path, "notes.txt", made()).write_text("hello")
    imported(tmp_path, details=True)
    folders = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("out*")}
    assert folders == {tmp_path / "out": 0o700, tmp_path / "out.key": 0o600}
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    (tmp_path / "out").chmod(0o755)
    assert imported(tmp_path).notes[OPEN_FOLDER] == 1
    assert not (tmp_path / "out" / "skipped.csv").exists()


_PLANTED = ("Meier^Anna", "Meier", "PAT-4711", "4711", "19700101", "1.2.826.77.5", "1.2.826.77.6", "ACC99", "Klinik")


def _full_of_names() -> Dataset:
    dataset = made(
        PatientName="Meier^Anna",
        PatientID="PAT-4711",
        PatientBirthDate="19700101",
        SOPInstanceUID="1.2.826.77.5",
        StudyInstanceUID="1.2.826.77.6",
        AccessionNumber="ACC99",
        InstitutionName="Klinik",
        ImageComments="Meier",
        IssuerOfPatientID="Klinik",
    )
    dataset.private_block(0x0011, "Klinik", create=True).add_new(1, "LO", "Meier^Anna")
    return dataset


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_no_name_number_or_path_gets_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _save(tmp_path, "Meier/Meier.dcm", _full_of_names())
    broken = _full_of_names()
    broken.SOPInstanceUID, broken.PixelData = "1.2.826.77.5.1", b"Me"
    _save(tmp_path, "Meier/broken.dcm", broken)
    odd = _full_of_names()
    odd.SOPInstanceUID = "1.2.826.77.5.2"
    odd.Modality = "Meier"
    odd.add_new("WindowCenter", "DS", "1")
    path = _save(tmp_path, "Meier/odd.dcm", odd)
    path.write_bytes(path.read_bytes().replace(b"DS\x02\x001 ", b"DS\x02\x00M\xe4"))
    (tmp_path / "in" / "Meier" / "cut").write_bytes(path.read_bytes()[:300])
    bad = _full_of_names()
    bad.file_meta.TransferSyntaxUID = JPEG2000Lossless
    bad.SOPInstanceUID = "1.2.826.77.5.3"
    bad.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x06\0\0\0Meier\0"
    _save(tmp_path, "Meier/bad.dcm", bad)
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = imported(tmp_path)
    assert not caught
    assert (report.imported, report.skipped.total()) == (1, 4)
    written = {p: p.read_bytes() for p in [*(tmp_path / "out").rglob("*"), tmp_path / "out.key"] if p.is_file()}
    assert len(written) == 5
    # pydicom warns and logs about each of the broken ones, in its own words.
    printed = "".join(capfd.readouterr()) + caplog.text + str(report)
    assert not caplog.records
    for text in _PLANTED:
        assert text not in printed
        for path, content in written.items():
            assert text.encode() not in content, path
            assert text not in path.name


def test_details_name_files_and_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in" / "Meier").mkdir(parents=True)
    (tmp_path / "in" / "Meier" / "a, b.txt").write_text("hello")
    _save(tmp_path, "a.dcm", made())
    imported(tmp_path, details=True)
    lines = (tmp_path / "out" / "skipped.csv").read_text().splitlines()
    assert lines == ["file,reason", f'"Meier/a, b.txt",{reasons.NOT_DICOM}']


def test_a_second_call_takes_up_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    imported(tmp_path)
    (first,) = manifest(tmp_path)
    written = (tmp_path / "out" / first["file"]).stat().st_mtime_ns
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.2"))
    report = imported(tmp_path, labels=OneLabel("y"))
    assert (report.imported, report.kept, report.images) == (1, 1, 2)
    assert (tmp_path / "out" / first["file"]).stat().st_mtime_ns == written
    # Labels follow the call, without decoding again.
    assert report.labels == {"y": 2}
    (tmp_path / "in" / "a.dcm").unlink()
    (tmp_path / "out" / first["file"]).unlink()
    assert imported(tmp_path).images == 2  # what is no longer in the archive stays listed
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    assert imported(tmp_path).imported == 1
    assert (tmp_path / "out" / first["file"]).is_file()


def test_what_may_no_longer_be_in_goes(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.2"))
    imported(tmp_path)
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.2", BurnedInAnnotation="YES"))
    assert imported(tmp_path).images == 1
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\nnone.dcm,x\n")
    report = imported(tmp_path, labels=LabelTable(labels))
    assert (report.images, report.skipped[reasons.NO_LABEL], report.unused_labels) == (0, 1, 1)
    assert list((tmp_path / "out" / "images").iterdir()) == []


def test_a_changed_file_is_imported_anew(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    imported(tmp_path)
    (before,) = manifest(tmp_path)
    _save(tmp_path, "a.dcm", made(255 - RAMP, SOPInstanceUID="1.1"))
    assert imported(tmp_path).imported == 1
    (after,) = manifest(tmp_path)
    assert after["file"] == before["file"]
    assert after["content"] != before["content"]


def test_the_same_image_twice(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.1", InstitutionName="another header"))
    squeezed = made(SOPInstanceUID="1.1")
    squeezed.compress(RLELossless, generate_instance_uid=False)
    _save(tmp_path, "c.dcm", squeezed)
    report = imported(tmp_path)
    assert (report.imported, report.skipped) == (1, {reasons.DUPLICATE: 2})


@pytest.mark.parametrize(
    "change", [{"PatientID": "P2"}, {"WindowCenter": 9, "WindowWidth": 9}, {"BurnedInAnnotation": "NO"}]
)
def test_two_images_under_one_uid_both_go(tmp_path: Path, change: dict[str, object]) -> None:
    _save(tmp_path, "0.dcm", made(SOPInstanceUID="1.0"))
    _save(tmp_path, "a.dcm", made(SOPInstanceUID="1.1"))
    imported(tmp_path)
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.1", **change))
    _save(tmp_path, "c.dcm", made(SOPInstanceUID="1.1"))
    for _ in range(2):
        report = imported(tmp_path)
        assert (report.imported, report.kept, report.skipped) == (0, 1, {reasons.CONFLICT: 3})
        assert len(manifest(tmp_path)) == len(list((tmp_path / "out" / "images").iterdir())) == 1


def test_a_copy_that_can_be_read_stands_in_for_one_that_cannot(tmp_path: Path) -> None:
    cut = made(SOPInstanceUID="1.1")
    cut.PixelData = b"\0\0"
    _save(tmp_path, "a.dcm", cut)
    _save(tmp_path, "b.dcm", made(SOPInstanceUID="1.1"))
    report = imported(tmp_path)
    assert (report.imported, report.skipped.total(), report.images) == (1, 1, 1)


def test_patients_that_are_missing_or_have_two_issuers_are_counted(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(PatientID=None))
    _save(tmp_path, "b.dcm", made(PatientID="7", IssuerOfPatientID="Bern"))
    _save(tmp_path, "c.dcm", made(PatientID="7"))
    notes = imported(tmp_path).notes
    assert (notes[f"images {NO_PATIENT}"], notes[TWO_ISSUERS]) == (1, 1)


def test_links_pipes_and_closed_folders(tmp_path: Path) -> None:
    outside = save(made(), tmp_path / "elsewhere" / "x.dcm")
    inside = _save(tmp_path, "a.dcm", made())
    (tmp_path / "in" / "out-of-it").symlink_to(outside)
    (tmp_path / "in" / "in-it").symlink_to(inside)
    (tmp_path / "in" / "folder").symlink_to(outside.parent)
    os.mkfifo(tmp_path / "in" / "pipe")
    report = imported(tmp_path)
    assert (report.imported, report.skipped) == (1, {reasons.LINK: 3, reasons.NOT_A_FILE: 1})


def test_settings_that_change_pictures_are_refused_in_one_folder(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made())
    imported(tmp_path)
    with pytest.raises(ConfigError, match=r"--window: .* was made with 'first', and now it is '40/400'"):
        imported(tmp_path, ImportSettings(window="40/400"))
    with pytest.raises(ConfigError, match="--frames"):
        imported(tmp_path, ImportSettings(frames="middle"))
    with pytest.raises(ConfigError, match="this import was begun with a key"):
        imported(tmp_path, key=tmp_path / "new.key")
    (tmp_path / "new.key").write_text("0" * 64)
    (tmp_path / "new.key").chmod(0o600)
    with pytest.raises(ConfigError, match="--key: .* another one"):
        imported(tmp_path, key=tmp_path / "new.key")
    (tmp_path / "out" / "report.json").write_text("{")
    with pytest.raises(ConfigError, match="no readable report.json"):
        imported(tmp_path)


def test_places_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        imported(tmp_path)
    _save(tmp_path, "a.dcm", made())
    with pytest.raises(ConfigError, match="lies in --out"):
        imported(tmp_path, key=tmp_path / "out" / "key")
    (tmp_path / "out").symlink_to(tmp_path / "in" / "below")
    with pytest.raises(ConfigError, match="lie in each other"):
        imported(tmp_path)
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.csv").write_text("file,label\n")
    with pytest.raises(ConfigError, match="no import wrote"):
        imported(tmp_path)
    (tmp_path / "out" / "manifest.csv").unlink()
    with locked(tmp_path / "out" / ".lock", wait=False), pytest.raises(ConfigError, match="another import"):
        imported(tmp_path)


def test_a_call_that_is_stopped_leaves_a_true_manifest(tmp_path: Path) -> None:
    for number in range(3):
        _save(tmp_path, f"{number}.dcm", made(SOPInstanceUID=f"1.{number}"))
    steps = iter(range(2))

    def stop() -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, step=stop)
    assert len(manifest(tmp_path)) == 3
    stray = tmp_path / "out" / "images" / f"{'0' * 32}.png"
    stray.write_bytes(b"written, and not listed")
    mine = tmp_path / "out" / "images" / "mine.txt"
    mine.write_text("not ours")
    assert imported(tmp_path).kept == 3
    assert mine.exists()
    assert not stray.exists()


def test_a_full_disk_ends_the_import_and_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, "a.dcm", made())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedmedpeft.data.dicom.image_folder.write_atomically", full)
    with pytest.raises(DataError, match="No space left"):
        imported(tmp_path)


def test_a_file_that_claims_billions_of_frames_costs_nothing(tmp_path: Path) -> None:
    _save(tmp_path, "a.dcm", made(RAMP[None], NumberOfFrames=2**31 - 1))
    assert imported(tmp_path).skipped == {reasons.TOO_LARGE: 1}
