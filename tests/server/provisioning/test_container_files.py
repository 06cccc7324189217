"""What the kits' container files build and start; the engine itself is not needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedpeft import __version__

_ENGINE = 'printf "%s\\n" "$@"'
_KIT_OF = {"site": "sites/Bern", "server": "server"}
_ROLES = pytest.mark.parametrize("role", _KIT_OF)

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(kits: Path, tmp_path: Path) -> Start:
    """Calls a kit's ``run.sh`` with an engine that only prints what it is given, one argument a line."""
    programs = tmp_path / "programs"
    programs.mkdir()

    def start(
        role: str, *command: str, caller: int = 0, owner: str = "995:990", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        here = {"podman": _ENGINE, "docker": _ENGINE, "chown": "", "id": f"echo {caller}", "stat": f"echo {owner}"}
        for name, line in here.items():
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        script = str(kits / _KIT_OF[role] / "container" / "run.sh")
        path = f"{programs}:{os.environ['PATH']}"
        return subprocess.run(
            [script, *command], env={"PATH": path, **environ}, capture_output=True, text=True, check=False
        )

    return start


@_ROLES
def test_nothing_but_the_program_becomes_part_of_the_image(made: Path, role: str) -> None:
    text = (made / _KIT_OF[role] / "container" / "Containerfile").read_text()
    copied = re.findall(r"^(?:COPY|ADD) (.*)$", text, flags=re.MULTILINE)
    venv = "/opt/fedmedpeft/venv"
    assert copied == ["constraints.txt *.whl /wheels/", f"--from=build {venv} {venv}"]


def test_one_image_serves_all_and_is_not_roots(made: Path) -> None:
    texts = {path.read_text() for path in made.rglob("Containerfile")}
    assert len(texts) == 1
    # A list, not a line for a shell, which would keep SIGTERM to itself.
    assert texts.pop().splitlines()[-2:] == ["USER 10001:10001", 'ENTRYPOINT ["fedmedpeft"]']


@pytest.mark.parametrize(("role", "command"), [("site", "site start site.yaml"), ("server", "server start --kit .")])
def test_without_words_its_part_is_started_where_the_kit_lies(start: Start, role: str, command: str) -> None:
    arguments = start(role).stdout.splitlines()
    words = ["--detach", "--name", f"fedmedpeft-{role}", f"fedmedpeft:{__version__}", *command.split()]
    assert arguments[-len(words) :] == words
    assert arguments[arguments.index("--workdir") + 1] == f"/opt/fedmedpeft/{role}"


@_ROLES
def test_a_container_can_write_nothing_but_what_must_last(start: Start, kits: Path, role: str) -> None:
    arguments = start(role).stdout.splitlines()
    assert {"--read-only", "--init", "no-new-privileges", "995:990"} <= set(arguments)
    assert arguments[arguments.index("--cap-drop") + 1] == "all"
    here, kit = f"/opt/fedmedpeft/{role}", kits / _KIT_OF[role]
    mounts = [argument for argument in arguments if argument.startswith("type=bind")]
    writable = [f"type=bind,source={kit}/{name},target={here}/{name}" for name in _lasting(role)]
    assert [mount for mount in mounts if not mount.endswith(",readonly")] == writable
    assert f"type=bind,source={kit},target={here},readonly" in mounts
    assert all((kit / name).stat().st_mode & 0o777 == 0o700 for name in _lasting(role))


def _lasting(role: str) -> list[str]:
    return ["state"] if role == "site" else ["state", "runs"]


@_ROLES
@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_no_port_is_published(start: Start, role: str, engine: str) -> None:
    arguments = start(role, ENGINE=engine).stdout.splitlines()
    assert arguments[0] == "run"
    assert not {"--publish", "-p", "--publish-all", "-P"} & set(arguments)
    assert ("--network" in arguments) == (role == "server")


def test_the_images_are_mounted_where_the_site_file_finds_them(start: Start) -> None:
    given = start("site", DATA="/archive/blood cells").stdout.splitlines()
    assert "type=bind,source=/archive/blood cells,target=/archive/blood cells,readonly" in given
    assert "type=bind,source=/srv/images,target=/srv/images,readonly" in start("site").stdout.splitlines()


def test_one_command_runs_in_a_container_that_ends_with_it(start: Start) -> None:
    arguments = start("site", "site", "check", "site.yaml", OPTIONS="--memory 8g").stdout.splitlines()
    image = f"fedmedpeft:{__version__}"
    assert arguments[-7:] == ["--rm", "--memory", "8g", image, "site", "check", "site.yaml"]
    assert not {"--name", "--detach"} & set(arguments)


@pytest.mark.parametrize(
    ("engine", "caller", "namespace"), [("podman", 0, False), ("podman", 1000, True), ("docker", 1000, False)]
)
def test_only_rootless_podman_needs_a_namespace_of_users(
    start: Start, engine: str, caller: int, namespace: bool
) -> None:
    arguments = start("site", ENGINE=engine, caller=caller).stdout.splitlines()
    assert ("keep-id" in arguments) == namespace
    assert arguments[arguments.index("--user") + 1] == "995:990"


@_ROLES
def test_a_kit_of_root_is_not_started(start: Start, role: str) -> None:
    done = start(role, owner="0:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "chown -R fedmedpeft: ." in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@_ROLES
def test_the_script_passes_shellcheck(made: Path, role: str) -> None:
    subprocess.run(["shellcheck", str(made / _KIT_OF[role] / "container" / "run.sh")], check=True)
