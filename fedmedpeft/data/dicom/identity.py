"""Names that say nothing: keyed hashes of patient ids and UIDs, with a key that stays at the site.

HMAC-SHA256: who has the images and not the key can neither turn a name back, nor try all patient numbers to find it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.reasons import Skipped

NO_PATIENT = "without a patient id: each study counts as a patient of its own"

_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME_DIGITS = 32
_PRIVATE = 0o600


class SiteKey:
    """Makes names; the same text always gets the same one under the same key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def open(cls, path: Path, *, make: bool) -> SiteKey:
        """Read the key file, or make one that only its owner may read.

        Raises:
            ConfigError: it is not there and may not be made, others may read it, or it holds no key.
        """
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ConfigError(f"--key '{path}' is not a plain file. Name the file itself, or one to be made.")
        if not path.exists():
            if not make:
                raise ConfigError(
                    f"--key '{path}' does not exist, and this import was begun with a key. Put that file back "
                    "(another key gives all patients other names), or import into a new folder."
                )
            write_atomically(path, f"{secrets.token_hex(_BYTES)}\n", mode=_PRIVATE)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"--key '{path}' may be read by others. Run: chmod 600 '{path}'")
        text = path.read_bytes().decode("ascii", errors="replace").strip()
        if not _HEX.fullmatch(text):
            raise ConfigError(f"--key '{path}' holds no key: expected 64 hexadecimal digits on one line.")
        return cls(bytes.fromhex(text))

    def name(self, kind: str, *parts: str) -> str:
        """32 hexadecimal digits; the same text of another ``kind`` gets another name."""
        message = "\0".join((kind, *parts)).encode("utf-8", errors="surrogatepass")
        return hmac.digest(self._secret, message, "sha256").hex()[:_NAME_DIGITS]


@dataclass(frozen=True)
class Identity:
    """Whose image it is, in keyed names. ``number`` is the patient's id without its issuer; empty where it has none."""

    image: str
    study: str
    patient: str
    number: str


def identify(header: Dataset, key: SiteKey) -> Identity:
    """Raises Skipped where the image has no UID."""
    uid = _text(header, "SOPInstanceUID")
    if not uid:
        raise Skipped(reasons.NO_UID)
    image = key.name("image", uid)
    studied = _text(header, "StudyInstanceUID")
    study = key.name("study", studied) if studied else key.name("study-of-image", uid)
    number = same_spelling(_text(header, "PatientID"))
    if not number:
        return Identity(image, study, key.name("patient-of-study", study), "")
    issuer = same_spelling(_text(header, "IssuerOfPatientID"))
    return Identity(image, study, key.name("patient", issuer, number), key.name("number", number))


def same_spelling(patient: str) -> str:
    """Letters and digits in lower case: `` ab-12^3 `` and ``AB123`` are one patient.

    Two patients taken for one only stay together in a partition; one taken for two could be in train and in test.

    >>> same_spelling(" Ab^0012 ")
    'ab0012'
    """
    return "".join(letter for letter in unicodedata.normalize("NFKC", patient).casefold() if letter.isalnum())


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip().strip("\0").strip()
