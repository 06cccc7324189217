from __future__ import annotations

from pathlib import Path

import pytest

from clients.preflight.free_memory import free_memory


def test_it_is_what_the_kernel_says() -> None:
    assert 2**20 < free_memory() < 2**50


def _group(directory: Path, version: int, limit: object, taken: int, droppable: int) -> None:
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    limit_name, taken_name, droppable_name = names.get(version, ("memory.max", "memory.current", "inactive_file"))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / limit_name).write_text(f"{limit}\n")
    (directory / taken_name).write_text(f"{taken}\n")
    (directory / "memory.stat").write_text(f"anon 5\n{droppable_name} {droppable}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_limit_counts(tmp_path: Path, version: int) -> None:
    """Its group is the top one inside, while its name may be the one that it has outside."""
    top = tmp_path / "groups" / ("memory" if version == 1 else "")
    own = tmp_path / "own"
    own.write_text(f"{'4:memory' if version == 1 else '0:'}:/machine/abc\n2:cpu:/\n")
    _group(top, version, 5_000_000, 3_000_000, 1_000_000)
    assert free_memory(tmp_path / "groups", own) == 3_000_000


def test_the_tightest_of_a_service_and_what_it_is_in(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/slice/service\n")
    _group(tmp_path / "slice", 2, 4_000_000, 3_500_000, 0)
    _group(tmp_path / "slice" / "service", 2, 2_000_000, 500_000, 0)
    assert free_memory(tmp_path, own) == 500_000
    _group(tmp_path / "slice", 2, 2_000_000, 3_500_000, 0)
    assert free_memory(tmp_path, own) == 0


def test_no_limit(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/\n")
    _group(tmp_path, 2, "max", 10, 0)
    assert free_memory(tmp_path, own) > 2**20
    assert free_memory(tmp_path, tmp_path / "none") > 2**20
