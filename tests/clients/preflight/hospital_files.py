"""Files of a small hospital."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

CLASSES = ("benign", "malignant")


def save_key(path: Path, key: Any, *, openssh: bool = True) -> Path:
    kind = serialization.PrivateFormat.OpenSSH if openssh else serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    path.chmod(0o600)
    return path


def image_rows(patients: int, per_patient: int = 2, prefix: str = "p") -> list[tuple[str, str, str, str]]:
    """Rows of two classes; every fifth patient is in test, the next in val."""
    return [
        (f"{prefix}{p}_{i}.png", CLASSES[p % 2], f"{prefix}{p}", ("test", "val", "train", "train", "train")[p // 2 % 5])
        for p in range(patients)
        for i in range(per_patient)
    ]
