"""What it is worth that a site's worker stays: a round's overhead with it, and with a process that loads everything.

Flower starts a process for each message. With the worker it imports no torch and hands the message over a Unix socket
to the process that has backbone and data; without, it would import, load and prepare all of that itself. Both ways
answer the same visits, in turn, each message in a new Python process that imports what Flower's own does, with the
same policy, egress gate and audit log; that both train to the same numbers, bit by bit, is checked. Overhead is the
time of such a process minus what the visit itself says it took. Medians; the first message of each way is not counted.
Flower's own polling (some seconds a round, the same for both) comes on top.

    python -m benchmarks.site_worker --backbone embedded vit-b-random --messages 7

A backbone is `embedded`, a directory, or `vit-b-random`: ViT-B/16 with random weights, for its size only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a message's process imports no more than it needs
    from clients.site_file import SiteFile
    from fedmedpeft.config import RunConfig
    from fedmedpeft.exchange import JoinReply, VisitReply

WORKER, WHOLE = "worker", "whole"
_WAYS = (WORKER, WHOLE)
_RANDOM, _NAME, _RUN = "vit-b-random", "backbone", "run"
_DATA = "phantoms(scanners=1, images=240)"
_FIELDS = ("seconds", "visit", "overhead", "memory")
_ABOVE = ("", *("with worker", "", "", ""), *("loading all", "", "", ""), "ratio", "ratio")
_HEADINGS = ("backbone", *("message s", "visit s", "overhead", "MB") * 2, "overhead", "message")
_WIDTHS = (16, *(12, 10, 10, 7) * 2, 11, 10)


@dataclass(frozen=True)
class Measured:
    """One message: seconds of its process, of the visit in it, and its largest resident memory in MB."""

    seconds: float
    visit: float
    memory: float

    @property
    def overhead(self) -> float:
        return self.seconds - self.visit


def measure(backbone: str, folder: Path, messages: int, steps: int) -> dict[str, list[Measured]]:
    """Both ways, message by message. Raises RuntimeError where they do not train to the same numbers."""
    announced = _announced(messages + 1, steps)
    sites = {way: _write_site(folder / way, backbone) for way in _WAYS}
    (folder / "run.json").write_text(announced.model_dump_json(by_alias=True), encoding="utf-8")
    measured: dict[str, list[Measured]] = {way: [] for way in _WAYS}
    with _daemon(sites[WORKER]):
        joined = _join(sites[WORKER], announced)
        for round_ in range(1, messages + 2):
            request = folder / f"request-{round_}"
            request.write_bytes(_visit(joined, announced, round_))
            replies = {}
            for way in _WAYS:
                replies[way], figures = _message(way, sites[way], request, folder)
                measured[way].append(figures)
            _check_equal(replies)
    return {way: of_way[1:] for way, of_way in measured.items()}


def answer(way: str, site_file: Path, request: Path, reply: Path) -> None:
    """What one message's process does, after the imports of Flower's own."""
    import flwr.supernode.runtime.run_clientapp  # noqa: F401

    import clients.app  # noqa: F401
    from clients.deployment.link import RUN_CONFIG, SiteLink
    from clients.site_file import SiteFile
    from fedmedpeft.exchange import flower as wire

    site, packed = SiteFile.load(site_file), request.read_bytes()
    if way == WORKER:
        content = wire.unpack(packed)
        run_config = dict(content.config_records[RUN_CONFIG])
        del content[RUN_CONFIG]
        answered = SiteLink(site.socket, run_config).ask("visit", content)
    else:
        from clients.deployment.desk import HospitalDesk

        with HospitalDesk.opened(site) as desk:
            answered = desk.answer("visit", packed)
    reply.write_bytes(wire.pack(answered))


def _message(way: str, site: SiteFile, request: Path, folder: Path) -> tuple[VisitReply, Measured]:
    """A new Python process for one message."""
    from fedmedpeft.exchange import flower as wire

    reply = folder / f"reply-{way}"
    files = map(str, (site.directory / "site.yaml", request, reply))
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.site_worker", "--answer", way, *files])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"The process of way '{way}' ended with {process.returncode}; its error is above.")
    answered = wire.decode_visit_reply(wire.unpack(reply.read_bytes()))
    return answered, Measured(seconds, answered.seconds, usage.ru_maxrss / 1e3)


@contextmanager
def _daemon(site: SiteFile) -> Iterator[None]:
    command = [sys.executable, "-m", "clients.deployment.daemon", str(site.directory / "site.yaml")]
    with (site.directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _join(site: SiteFile, announced: RunConfig) -> JoinReply:
    from clients.deployment.link import SiteLink
    from fedmedpeft.exchange import JoinRequest
    from fedmedpeft.exchange import flower as wire

    link = SiteLink(site.socket, announced.to_mapping())
    return wire.decode_join_reply(link.ask("join", wire.encode(JoinRequest(_RUN, True))))


def _visit(joined: JoinReply, announced: RunConfig, round_: int) -> bytes:
    """The request of a round, packed with the run's configuration; every one starts from the initial state."""
    from flwr.app import ConfigRecord

    from clients.deployment.link import RUN_CONFIG
    from fedmedpeft.exchange import VisitRequest
    from fedmedpeft.exchange import flower as wire

    assert joined.state is not None
    content = wire.encode(VisitRequest(_RUN, round_, False, joined.fingerprint, 0.0, joined.state))
    content[RUN_CONFIG] = ConfigRecord(dict(announced.to_mapping()))
    return wire.pack(content)


def _announced(rounds: int, steps: int) -> RunConfig:
    from fedmedpeft.config import RunConfig

    return RunConfig(backbone=_NAME, data=_DATA, rounds=rounds, local_steps=steps, batch_size=8, references="none")


def _write_site(folder: Path, backbone: str) -> SiteFile:
    import yaml

    from clients.site_file import SiteFile
    from fedmedpeft.data import build_source

    folder.mkdir()
    content = {
        "site": "hospital",
        "server": {"address": "127.0.0.1:1", "ca-certificate": "none", "key": "none"},
        "data": {"source": _DATA, "classes": list(build_source(_DATA).table.classes)},
        "backbones": {_NAME: backbone},
        "device": "cpu",
        "policy": {"smallest-count": 0},
        "worker": {"threads": 1},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return SiteFile.load(folder / "site.yaml")


def _random_vit_b(folder: Path) -> str:
    import torch
    from transformers import ViTConfig, ViTModel

    from fedmedpeft.backbones import Preprocessing

    torch.manual_seed(0)
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
    preprocessing = Preprocessing(image_size=224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")
    (folder / "preprocessing.json").write_text(preprocessing.model_dump_json(), encoding="utf-8")
    return str(folder)


def _check_equal(replies: dict[str, VisitReply]) -> None:
    states = [reply.state for reply in replies.values()]
    vectors = [{part: values.tobytes() for part, values in state.vectors.items()} for state in states if state]
    if len(vectors) != len(_WAYS) or vectors[0] != vectors[1]:
        raise RuntimeError("The two ways did not train to the same numbers.")


def _row(name: str, measured: dict[str, list[Measured]]) -> str:
    worker, whole = ({f: statistics.median(getattr(m, f) for m in measured[way]) for f in _FIELDS} for way in _WAYS)
    cells = [
        f"{of[field]:.0f}" if field == "memory" else f"{of[field]:.2f}" for of in (worker, whole) for field in _FIELDS
    ]
    ratios = [f"{whole[field] / worker[field]:.1f} x" for field in ("overhead", "seconds")]
    return _line(name, *cells, *ratios)


def _line(name: str, *cells: str) -> str:
    return name.ljust(_WIDTHS[0]) + "".join(cell.rjust(w) for cell, w in zip(cells, _WIDTHS[1:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["embedded"], help="embedded, a directory, or vit-b-random")
    parser.add_argument("--messages", type=int, default=7, help="that are counted, each way")
    parser.add_argument("--local-steps", type=int, default=2, help="of 8 images, in each visit")
    parser.add_argument("--answer", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        way, *files = arguments.answer
        answer(way, *map(Path, files))
        return
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    print(_line(*_ABOVE), _line(*_HEADINGS), sep="\n")
    for backbone in arguments.backbone:
        with tempfile.TemporaryDirectory(prefix="fmp-bench-") as name:
            folder = Path(name)
            made = _random_vit_b(folder / _RANDOM) if backbone == _RANDOM else backbone
            label = backbone if backbone in ("embedded", _RANDOM) else Path(backbone).name
            print(_row(label, measure(made, folder, arguments.messages, arguments.local_steps)), flush=True)


if __name__ == "__main__":
    main()
