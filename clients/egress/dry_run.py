"""A dry run's answer, in two files: the very bytes that would have left, and what they are, to be read by a person."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict

from clients.egress.withholding import Reply
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.exchange import Contract, ContractError, EncodedState, Scores
from fedmedpeft.exchange import flower as wire

_UNUSUAL = re.compile(r"[^\w.-]")
_LONGEST = 80


def write_dry_run(
    folder: Path,
    kind: str,
    run: str,
    round_: int,
    content: RecordDict,
    reply: Reply,
    contract: Contract | None = None,
) -> Path:
    """Write both, whole or not at all, for this user alone; the same answer again replaces its files.

    Args:
        folder: made if need be.
        kind: ``answers``, ``join``, ``visit`` or ``reference``.
        run: its name.
        round_: of a visit; 0 elsewhere.
        content: what the egress gate let out.
        reply: the same, before it was encoded.
        contract: gives the tensors their names.

    Returns:
        The file of bytes; the one to be read ends in ``.json``. Raises OSError where they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    packed = wire.pack(content)
    path = folder / f"{_file_name(run)}--{kind}-{round_:04}.bin"
    about = {
        "about": "What would have been sent. Nothing was.",
        "kind": kind,
        "run": run,
        "round": round_,
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "answer": {field.name: _readable(getattr(reply, field.name), contract) for field in fields(reply)},
    }
    write_atomically(path, packed, mode=0o600)
    text = json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path.with_suffix(".json"), f"{text}\n", mode=0o600)
    return path


def _file_name(run: str) -> str:
    """The run's name, or one that stands for it: no run's answer replaces another's."""
    plain = _UNUSUAL.sub("_", run)[:_LONGEST]
    return plain if plain == run else f"{plain}-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def _readable(value: Any, contract: Contract | None) -> Any:
    if isinstance(value, EncodedState):
        return _state(value, contract)
    if isinstance(value, Scores):
        return {name: _readable(part, contract) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {key: _readable(part, contract) for key, part in value.items()}
    # JSON has no nan.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _state(state: EncodedState, contract: Contract | None) -> dict[str, Any]:
    arrays = {part: _array(vector) for part, vector in state.vectors.items()}
    return {"names_hash": state.manifest_hash, "arrays": arrays, "tensors": _tensors(state, contract)}


def _tensors(state: EncodedState, contract: Contract | None) -> dict[str, Any]:
    if contract is None:
        return {}
    try:
        named = contract.admit(state).tensors()
    except ContractError:
        return {}
    return {name: {"shape": list(values.shape), "norm": _norm(values)} for name, values in named.items()}


def _array(vector: np.ndarray) -> dict[str, Any]:
    digest = hashlib.sha256(np.ascontiguousarray(vector).tobytes()).hexdigest()
    return {"numbers": vector.size, "type": str(vector.dtype), "norm": _norm(vector), "sha256": digest}


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64).ravel()))
