from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.exchange import Contract, ContractError, EncodedState, Manifest, PeftState, TensorSpec

_names = st.lists(st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5})?", fullmatch=True), min_size=1, max_size=6, unique=True)
_shapes = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    return Manifest.of(
        TensorSpec(name, draw(_shapes), draw(st.sampled_from(["method", "head"]))) for name in draw(_names)
    )


def _state(manifest: Manifest, seed: int = 0) -> PeftState:
    generator = np.random.default_rng(seed)
    return PeftState.from_tensors(manifest, {s.name: generator.normal(size=s.shape) for s in manifest.tensors})


_MANIFEST = Manifest.of([TensorSpec("blocks.0.q.lora_A", (2, 3), "method"), TensorSpec("head.bias", (4,), "head")])


@given(manifests(), st.integers(0, 1000))
def test_tensors_survive_the_flat_vectors(manifest: Manifest, seed: int) -> None:
    generator = np.random.default_rng(seed)
    tensors = {s.name: generator.normal(size=s.shape).astype(np.float32) for s in manifest.tensors}
    admitted = Contract(manifest).admit(PeftState.from_tensors(manifest, tensors).encode())
    assert admitted.tensors().keys() == tensors.keys()
    assert all(np.array_equal(admitted.tensors()[name], tensors[name]) for name in tensors)
    assert sum(v.size for v in admitted.vectors.values()) * 4 == manifest.nbytes


@given(manifests())
def test_the_manifest_does_not_depend_on_the_order_given(manifest: Manifest) -> None:
    assert Manifest.of(reversed(manifest.tensors)).hash == manifest.hash


@pytest.mark.parametrize(
    "changed",
    [
        TensorSpec("blocks.0.q.lora_a", (2, 3), "method"),
        TensorSpec("blocks.0.q.lora_A", (3, 2), "method"),
        TensorSpec("blocks.0.q.lora_A", (2, 3), "head"),
    ],
)
def test_any_difference_changes_the_hash(changed: TensorSpec) -> None:
    assert Manifest.of([changed, _MANIFEST.tensors[1]]).hash != _MANIFEST.hash


def test_a_name_may_occur_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Manifest.of([_MANIFEST.tensors[0], _MANIFEST.tensors[0]])


def _with(part: str, vector: np.ndarray) -> EncodedState:
    good = _state(_MANIFEST).encode()
    return replace(good, vectors={**good.vectors, part: vector})


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (replace(_state(_MANIFEST).encode(), manifest_hash="0" * 64), "manifest 000000000000 differs"),
        (replace(_state(_MANIFEST).encode(), manifest_hash=""), r"manifest \(none\)"),
        (replace(_state(_MANIFEST).encode(), vectors={}), "parts"),
        (_with("backbone", np.zeros(3, np.float32)), "parts"),
        (_with("method", np.zeros(5, np.float32)), r"shape \(5,\), expected float32 of shape \(6,\)"),
        (_with("method", np.zeros((2, 3), np.float32)), "shape"),
        (_with("method", np.zeros(6, np.float64)), "float64"),
        (_with("method", np.full(6, np.nan, np.float32)), "not finite"),
        (_with("head", np.full(4, np.inf, np.float32)), "not finite"),
        (_with("head", np.full(4, 100.0, np.float32)), "norm 200 is above the ceiling of 50"),
    ],
)
def test_what_breaks_the_contract_is_refused(encoded: EncodedState, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        Contract(_MANIFEST, max_norm=50).admit(encoded)


def test_values_of_another_shape_do_not_get_in() -> None:
    with pytest.raises(ValueError, match="head.bias"):
        PeftState.from_tensors(_MANIFEST, {"blocks.0.q.lora_A": np.zeros((2, 3)), "head.bias": np.zeros((2, 2))})


def test_the_hash_tells_one_bit_apart() -> None:
    one, other = _state(_MANIFEST), _state(_MANIFEST)
    assert one.hash() == other.hash()
    other.vectors["head"][0] = np.nextafter(other.vectors["head"][0], np.float32(9))
    assert one.hash() != other.hash()


@given(manifests(), st.data())
def test_a_part_put_back_is_the_whole(manifest: Manifest, data: st.DataObject) -> None:
    state = PeftState.from_tensors(
        manifest, {s.name: np.full(s.shape, i, "f4") for i, s in enumerate(manifest.tensors)}
    )
    names = data.draw(st.sets(st.sampled_from([spec.name for spec in manifest.tensors])))
    part = state.only(manifest.only(names))
    assert set(part.tensors()) == names
    Contract(manifest).over(part.manifest).admit(part.encode())
    zeros = PeftState.from_tensors(manifest, {s.name: np.zeros(s.shape) for s in manifest.tensors})
    mixed = zeros.updated(part).tensors()
    for name, values in state.tensors().items():
        assert np.array_equal(mixed[name], values if name in names else np.zeros_like(values))
    assert zeros.hash() == zeros.updated(zeros.only(part.manifest)).hash()
    assert state.updated(zeros).hash() == zeros.hash()
