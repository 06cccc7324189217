"""Imports point one way: the floors of the house, from the ground up (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

# A room may import rooms on lower floors, and what its own line allows besides: rooms of one floor do not know each
# other unless the line says so.
_FLOORS: list[dict[str, set[str]]] = [
    {
        "fedmedpeft.components": set(),
        "fedmedpeft.atomic_file": set(),
        "fedmedpeft.chain": set(),
        "fedmedpeft.chain_book": {"fedmedpeft.chain", "fedmedpeft.components"},
        "fedmedpeft.chained_file": {
            "fedmedpeft.atomic_file",
            "fedmedpeft.chain",
            "fedmedpeft.chain_book",
            "fedmedpeft.file_lock",
        },
        "fedmedpeft.console_table": set(),
        "fedmedpeft.file_lock": set(),
        "fedmedpeft.flower_environment": set(),
        "fedmedpeft.supervision": {"fedmedpeft.atomic_file"},
        "fedmedpeft.run_file": {"fedmedpeft.components"},
        "fedmedpeft.section": set(),
        "fedmedpeft.site_names": set(),
        "fedmedpeft.strict_yaml": {"fedmedpeft.components"},
        "fedmedpeft.text": set(),
        "fedmedpeft.written_file": {"fedmedpeft.components", "fedmedpeft.section", "fedmedpeft.strict_yaml"},
    },
    {"fedmedpeft.config": set(), "fedmedpeft.site_identity": set()},
    {
        "fedmedpeft.backbones": set(),
        "fedmedpeft.data": set(),
        "fedmedpeft.knowledge": {"fedmedpeft.data"},
        "fedmedpeft.exchange": set(),
        "fedmedpeft.privacy": {"fedmedpeft.backbones", "fedmedpeft.data"},
    },
    {"fedmedpeft.methods": set()},
    {"fedmedpeft.tasks": set()},
    {"fedmedpeft.learner": set()},
    {"fedmedpeft.adapter_file": set(), "fedmedpeft.hf_models": set()},
    {"fedmedpeft.hf_adapter": set()},
    {"fedmedpeft.adapter_directory": set(), "fedmedpeft.hf_import": set()},
    {"fedmedpeft.starting_state": set()},
    {"fedmedpeft.training": set(), "fedmedpeft.portable": set(), "fedmedpeft.merging": set()},
    {"server": set()},
    {"clients": set()},
    {"simulations": set()},
    {"pretraining": set()},
]
_ROOMS = {room: floor for floor, rooms in enumerate(_FLOORS) for room in rooms}
# The root of the command mounts sub-commands when they are called, never when it is imported.
_COMMAND_ROOT = "fedmedpeft.cli"
# Nobody below these floors may know them.
_FORBIDDEN = {
    ("clients", "server"),
    ("pretraining", "server"),
    ("pretraining", "clients"),
    ("pretraining", "simulations"),
}


def _modules() -> Iterator[tuple[str, Path]]:
    for top in ("fedmedpeft", "clients", "server", "simulations", "pretraining"):
        for path in sorted((_ROOT / top).rglob("*.py")):
            parts = path.relative_to(_ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(module: str) -> str | None:
    return next((room for room in _ROOMS if module == room or module.startswith(f"{room}.")), None)


@pytest.mark.parametrize(
    ("module", "path"), list(_modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_down(module: str, path: Path) -> None:
    if module in (_COMMAND_ROOT, "fedmedpeft"):
        return
    here = _room(module)
    assert here is not None, f"{module} is in no room: add it to the floor plan, here and in docs/architecture.md"
    for imported in _imports(path):
        there = _room(imported)
        if there is None or there == here:
            continue
        assert (here, there) not in _FORBIDDEN, f"{module} imports {imported}"
        assert _ROOMS[there] < _ROOMS[here] or there in _FLOORS[_ROOMS[here]][here], f"{module} imports {imported}"


def test_only_the_exchange_and_the_apps_know_flower() -> None:
    for module, path in _modules():
        if any(name.split(".")[0] == "flwr" for name in _imports(path)):
            assert module == "fedmedpeft.exchange.flower" or module.split(".")[0] in (
                "clients",
                "server",
                "simulations",
            ), module


def test_nothing_is_pickled() -> None:
    for module, path in _modules():
        assert not {name.split(".")[0] for name in _imports(path)} & {"pickle", "cloudpickle", "dill", "joblib"}, module
        for call in re.findall(r"torch\.load\([^\n]*", path.read_text(encoding="utf-8")):
            assert "weights_only=True" in call, module


# What only shows where all sides run as processes is about no room alone.
_ALL_SIDES = Path("deployment")


def test_tests_mirror_the_house() -> None:
    """Every test file lies where the module lies that it is about."""
    for path in (_ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(_ROOT / "tests").parent
        assert (_ROOT / folder).is_dir() or folder == _ALL_SIDES, f"{path} mirrors no folder"
