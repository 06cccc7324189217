from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from clients.preflight.command import check_command
from clients.preflight.credentials import check_key
from clients.preflight.facts import Facts
from tests.clients.preflight.hospital_files import CLASSES, image_rows
from tests.clients.preflight.tls_server import Authority, FlowerServer, flower_server

_PATIENT = "MeierJohann1956"


@pytest.fixture
def hospital(
    make_site: Callable[..., Path], facts_of: Callable[..., Facts], make_images: Callable[..., str]
) -> Callable[..., Path]:
    """A site whose patients have names that must not be seen."""

    def make(port: int, rows: list[tuple[str, str, str, str]], server: FlowerServer) -> Path:
        facts = facts_of()
        check_key(facts)
        server.known.add(public_key_to_bytes(facts.key.public_key()))
        return make_site(
            server={"address": f"127.0.0.1:{port}"},
            data={"source": make_images(rows), "classes": list(CLASSES)},
            worker={"runtime-port": _free_port()},
        )

    return make


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _checked(capsys: pytest.CaptureFixture[str], path: Path, **options: Any) -> tuple[int, str]:
    code = 0
    try:
        check_command(path, **options)
    except typer.Exit as end:
        code = end.exit_code
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_sound_site(
    hospital: Callable[..., Path], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_config = tmp_path / "run.toml"
    run_config.write_text("method = 'lora(rank=2)'\nrounds = 2\nbatch-size = 4\n")
    server = FlowerServer()
    with flower_server(authority.server(tmp_path), server) as port:
        path = hospital(port, image_rows(60), server)
        code, text = _checked(capsys, path, as_json=True, run_config=run_config, thorough=True)
    report = json.loads(text)
    assert {check["name"]: check["outcome"] for check in report["checks"] if check["outcome"] != "pass"} == {}
    assert (code, report["outcome"], report["site"], len(report["checks"])) == (0, "pass", "hospital-a", 26)
    assert server.activated == []
    assert not (tmp_path / "state").exists()


def test_without_a_server_the_rest_is_checked_all_the_same(
    make_site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _checked(capsys, make_site(), as_json=True)
    found = {check["name"]: check for check in json.loads(text)["checks"]}
    assert code == 1
    assert found["server"]["outcome"] == "fail"
    for name in ("tls", "clock", "registered"):
        assert found[name]["outcome"] == "skip"
        assert "'server'" in found[name]["found"]
    assert found["memory"]["outcome"] == "pass"


def test_a_site_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = _checked(capsys, tmp_path / "none.yaml")
    assert code == 1
    assert "FAIL" in text
    assert "it builds on 'site-file'" in text


def test_no_name_of_a_file_or_patient_is_in_the_report(
    hospital: Callable[..., Path], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with the data. With --details the same report names them."""
    rows = image_rows(60, prefix=_PATIENT)
    torn = [*rows, (f"{_PATIENT}9_x.png", "benign", rows[0][2], "train")]
    unknown = [*rows, (f"{_PATIENT}9_y.png", f"{_PATIENT} disease", "q", "train")]
    server = FlowerServer()
    with flower_server(authority.server(tmp_path), server) as port:
        for case in ("torn", "unknown label", "damaged", "no file"):
            path = hospital(port, {"torn": torn, "unknown label": unknown}.get(case, rows), server)
            if case in ("damaged", "no file"):
                for image in sorted((tmp_path / "pictures").glob("*.png"))[: 5 if case == "damaged" else None]:
                    image.write_bytes(b"") if case == "damaged" else image.unlink()
            for as_json in (False, True):
                _, text = _checked(capsys, path, as_json=as_json, thorough=True)
                assert _PATIENT not in text, case
                assert str(tmp_path) not in text, case
                assert "table.csv" not in text, case
            _, detailed = _checked(capsys, path, as_json=True, thorough=True, details=True)
            assert _PATIENT in detailed, case
