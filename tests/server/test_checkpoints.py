from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedmedpeft.components import ConfigError
from server.checkpoints import Checkpoints
from tests.server.scripted_sites import manifest_of, run_config, state_of

MEMORY = {"m_t/head": np.arange(3, dtype=np.float32), "v_t/head": np.array([0.1, np.inf, 1e-300])}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints after rounds 0 to 4, of which the last two are there."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    manifest = manifest_of(run_config(folder.parent))
    for round_ in range(5):
        Checkpoints(folder).write(round_, state_of(manifest, seed=round_), MEMORY, {"of round": round_})
    return folder


@pytest.fixture
def folder(tmp_path: Path, written: Path) -> Path:
    shutil.copytree(written, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def newest(folder: Path) -> tuple[object, list[str]]:
    said: list[str] = []
    saved = Checkpoints(folder).newest(said.append)
    assert saved is None or saved.progress == {"of round": saved.round}
    return saved and saved.round, said


def test_the_last_two_are_kept(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        f"round-000{round_}{suffix}"
        for round_ in (3, 4)
        for suffix in ("-strategy.safetensors", ".json", ".safetensors")
    ]
    assert newest(folder) == (4, [])


def test_what_was_written_is_read(folder: Path) -> None:
    saved = Checkpoints(folder).newest(print)
    assert saved is not None
    tensors = state_of(manifest_of(run_config(folder.parent)), seed=4).tensors()
    for found in (saved.state, load_file(folder / "round-0004.safetensors")):
        assert {name: array.tobytes() for name, array in found.items()} == {n: a.tobytes() for n, a in tensors.items()}
    assert {name: (a.dtype, a.tobytes()) for name, a in saved.memory.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in MEMORY.items()
    }


def test_without_memory_there_is_no_file_of_it(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c").write(0, state_of(manifest_of(run_config(tmp_path))), {}, None)
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["round-0000.json", "round-0000.safetensors"]
    saved = Checkpoints(tmp_path / "c").newest(print)
    assert saved is not None
    assert saved.memory == {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_one_is_never_used(folder: Path, written: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(path.name for path in written.glob("round-0004*"))))
    whole = (written / name).read_bytes()
    index, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    damaged = whole[:index] + (bytes([whole[index] ^ change]) + whole[index + 1 :] if change else b"")
    (folder / name).write_bytes(damaged)
    round_, said = newest(folder)
    (folder / name).write_bytes(whole)
    assert round_ == 3
    assert len(said) == 1
    assert said[0].startswith("WARNING: checkpoint round-0004")


@pytest.mark.parametrize("suffix", ["-strategy.safetensors", ".json", ".safetensors"])
def test_one_that_lacks_a_file_is_not_used(folder: Path, suffix: str) -> None:
    (folder / f"round-0004{suffix}").unlink()
    assert newest(folder)[0] == 3


def test_an_older_one_under_a_newer_name_is_not_used(folder: Path) -> None:
    for suffix in ("-strategy.safetensors", ".json", ".safetensors"):
        shutil.copy(folder / f"round-0003{suffix}", folder / f"round-0005{suffix}")
    round_, said = newest(folder)
    assert round_ == 4
    assert "round-0005" in said[0]


def test_a_cut_off_write_leaves_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.checkpoints.write_sealed", full)
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(folder).write(5, state_of(manifest_of(run_config(folder.parent))), {}, {"of round": 5})
    assert newest(folder) == (4, [])


@pytest.mark.parametrize("damage", ["all damaged", "descriptions gone"])
def test_with_none_that_is_whole_nothing_begins_anew(folder: Path, damage: str) -> None:
    for file in folder.glob("*.json"):
        if damage == "all damaged":
            file.write_text(file.read_text()[:-9])
        else:
            file.unlink()
    with pytest.raises(ConfigError, match="No checkpoint in .* is whole .* start a new run"):
        newest(folder)


def test_before_the_first_one_there_is_none(tmp_path: Path, folder: Path) -> None:
    assert newest(tmp_path / "nowhere") == (None, [])
    for file in folder.iterdir():
        file.rename(folder / "round-0000.safetensors")
    assert newest(folder) == (None, [])
