"""From a folder of DICOM files to a folder of pictures with a manifest.

One file at a time and of that one frame at a time, so memory does not grow with the archive. A second call takes up
what is new, keeps what is there, and leaves out what may no longer be in: the folder follows the files that it sees.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import admission, reasons
from fedmedpeft.data.dicom.frames import (
    Picture,
    check_frames,
    chosen_frames,
    frame_count,
    frames_asked,
    pictures,
    quiet,
)
from fedmedpeft.data.dicom.identity import NO_PATIENT, Identity, SiteKey, identify
from fedmedpeft.data.dicom.image_folder import ImageFolder, Imported
from fedmedpeft.data.dicom.labels import Labels
from fedmedpeft.data.dicom.opened import Opened, opened
from fedmedpeft.data.dicom.reasons import Skipped
from fedmedpeft.data.dicom.report import ImportReport, began_with, write_report
from fedmedpeft.data.dicom.walk import files_below, is_plain
from fedmedpeft.data.dicom.window import Window
from fedmedpeft.data.errors import DataError

TWO_ISSUERS = "patient ids that come with several issuers (or with and without): each counts as a patient of its own"
_SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class ImportSettings:
    """How pictures are made, and which are left out. Raises ConfigError where ``window`` or ``frames`` is unknown."""

    window: str = "first"
    frames: str = "all"
    burned_in: admission.BurnedIn = "skip"
    localizers: admission.Localizers = "skip"

    def __post_init__(self) -> None:
        Window.parse(self.window)
        check_frames(self.frames)


@dataclass
class _First:
    """The first file of this call that holds an object; ``marked``: what it says of burned-in text."""

    file: str
    content: str
    marked: str
    kept: bool = False


@dataclass
class DicomImport:
    """One call of the command.

    Attributes:
        left_out: called with each file that is skipped (path below the source) and why: for the site's eyes only.
        step: called after each file.
    """

    source: Path
    folder: ImageFolder
    key: SiteKey
    labels: Labels
    settings: ImportSettings
    left_out: Callable[[str, str], None] = lambda file, reason: None
    step: Callable[[], None] = lambda: None
    report: ImportReport = field(default_factory=ImportReport)
    _seen: dict[str, _First] = field(default_factory=dict)
    _conflicts: set[str] = field(default_factory=set)
    _patients: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def run(self) -> ImportReport:
        """Take up all files. However it ends, the manifest lists what was written.

        Raises:
            ConfigError: the folder was made with another key, window or choice of frames.
            DataError: the folder cannot be written.
        """
        described = self._described()
        write_report(self.folder.path, described, None)
        saved = time.monotonic()
        try:
            for path, file in files_below(self.source):
                self._count(path, file)
                self.step()
                if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                    self.folder.save()
                    saved = time.monotonic()
        finally:
            self.folder.save()
        self.folder.sweep()
        self._finish()
        write_report(self.folder.path, described, self.report)
        return self.report

    def _described(self) -> dict[str, str]:
        """What must not change between calls, checked: else one folder would hold pictures of two kinds."""
        now = {"window": self.settings.window, "frames": self.settings.frames, "key": self.key.name("check")}
        before = began_with(self.folder.path) or now
        for name, value in now.items():
            if before.get(name) != value:
                was = "another one" if name == "key" else f"'{before.get(name)}', and now it is '{value}'"
                raise ConfigError(
                    f"--{name}: '{self.folder.path}' was made with {was}. Give the same, or import into a new folder."
                )
        return now

    def _count(self, path: Path, file: str) -> None:
        self.report.seen += 1
        try:
            with quiet():
                kept = self._take(path, file)
        except Skipped as reason:
            self._skip(file, str(reason))
        except DataError:
            raise
        except Exception:  # A damaged file can make a parser raise nearly anything; what it says quotes the file.
            self._skip(file, reasons.UNREADABLE)
        else:
            self.report.kept += kept
            self.report.imported += not kept

    def _skip(self, file: str, reason: str) -> None:
        self.report.skipped[reason] += 1
        self.left_out(file, reason)

    def _take(self, path: Path, file: str) -> bool:
        """Take up one file; whether it was here already."""
        if path.is_symlink():
            raise Skipped(reasons.LINK)
        if path.is_dir():
            raise Skipped(reasons.UNLISTED)
        if not is_plain(path):
            raise Skipped(reasons.NOT_A_FILE)
        with opened(path) as found:
            whose = identify(found.header, self.key)
            content = self.key.name("content", found.digest().hex(), whose.patient, whose.study)
            self._refuse_second(found, whose, content, file)
            try:
                return self._admit(found, whose, content, file)
            except BaseException:
                self.folder.forget(whose.image)
                raise

    def _refuse_second(self, found: Opened, whose: Identity, content: str, file: str) -> None:
        """Of two different images under one UID neither is known to be the right one: both go.

        The same picture in another compression is no other image; nor is a copy of one that could not be taken up.
        """
        image, marked = whose.image, str(found.header.get("BurnedInAnnotation"))
        first = self._seen.setdefault(image, _First(file, content, marked))
        if first.file == file:
            return
        if image not in self._conflicts and first.content == content:
            raise Skipped(reasons.DUPLICATE)
        if image not in self._conflicts and first.marked == marked:
            if image not in self.folder.rows:
                self._seen[image] = _First(file, content, marked)
                return
            if self._looks_the_same(found, whose):
                raise Skipped(reasons.DUPLICATE)
        self._conflicts.add(image)
        if self.folder.forget(image):
            self.report.kept -= first.kept
            self.report.imported -= not first.kept
            self._skip(first.file, reasons.CONFLICT)
        raise Skipped(reasons.CONFLICT)

    def _looks_the_same(self, found: Opened, whose: Identity) -> bool:
        """Whether ``found`` is of the same patient as what is in the folder under its UID, and of the same pictures."""
        there = self.folder.rows[whose.image]
        if (there.patient, there.study) != (whose.patient, whose.study):
            return False
        with closing(self._pictures(found)) as shown:
            return self.folder.same_pictures(there, shown)

    def _pictures(self, found: Opened) -> Generator[Picture, None, None]:
        """Those asked for, of an image that may be in."""
        header = found.header
        admission.check_kind(header, self.settings.burned_in, self.settings.localizers)
        admission.check_size(header, frames_asked(self.settings.frames, frame_count(header)))
        admission.check_decoder(header.file_meta.TransferSyntaxUID)
        frames = chosen_frames(self.settings.frames, frame_count(header))
        return pictures(found, frames, Window.parse(self.settings.window))

    def _admit(self, found: Opened, whose: Identity, content: str, file: str) -> bool:
        """Check and write one object, or keep it as it is; whether it was here already."""
        with closing(self._pictures(found)) as shown:
            label = self.labels.of(found.header, file)
            self._note_patient(whose)
            kept = self.folder.complete(whose.image, content)
            self._seen[whose.image].kept = kept
            if kept:
                self.folder.relabel(whose.image, label)
            else:
                about = Imported((), label, whose.patient, whose.study, content)
                self.folder.put(whose.image, map(self._noted, shown), frame_count(found.header) > 1, about)
            return kept

    def _noted(self, picture: Picture) -> Picture:
        self.report.notes.update(picture.notes)
        return picture

    def _note_patient(self, whose: Identity) -> None:
        if whose.number:
            self._patients[whose.number].add(whose.patient)
        else:
            self.report.notes[f"images {NO_PATIENT}"] += 1

    def _finish(self) -> None:
        several = sum(len(patients) > 1 for patients in self._patients.values())
        if several:
            self.report.notes[TWO_ISSUERS] = several
        self.report.unused_labels = self.labels.unused()
        self.report.count_folder(self.folder)
