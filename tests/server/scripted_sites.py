"""Sites without data or training: each visit moves the state by a fixed step. And every way to misbehave."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from safetensors.numpy import save

from clients.global_state import kept_state, whole_state
from fedmedpeft.backbones import load_record
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    Contract,
    EncodedState,
    JoinReply,
    Manifest,
    PeftState,
    ReferenceReply,
    Scores,
    SiteError,
    VisitReply,
)
from fedmedpeft.exchange import flower as wire
from fedmedpeft.methods import Rotation
from fedmedpeft.tasks import Classification
from server.joining import exchanged

CLASSES = ("benign", "malignant")
FINGERPRINT = "f" * 64
PATIENT = "patient 4711"
"""Stands for what must never show up on the server's side beyond a failing site's own first line."""


def backbone_directory(parent: Path, depth: int = 2) -> Path:
    """A tiny ViT's configuration, without weights: all that the server reads."""
    directory = parent / f"backbone-{depth}"
    directory.mkdir(exist_ok=True)
    sizes = {"hidden_size": 8, "num_hidden_layers": depth, "num_attention_heads": 2, "intermediate_size": 16}
    config = {"model_type": "vit", "image_size": 16, "patch_size": 8, **sizes}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(save({}))
    return directory


def run_config(tmp_path: Path, **changes: Any) -> RunConfig:
    """A short run over the tiny backbone."""
    values = {"backbone": str(backbone_directory(tmp_path)), "method": "bitfit", "rounds": 2, "references": "none"}
    values |= {"runs_dir": str(tmp_path / "runs"), "run_name": "run", "min_sites": 2, "round_timeout": 0.2}
    return RunConfig(**{**values, **changes})


def manifest_of(config: RunConfig) -> Manifest:
    return exchanged(config, load_record(config.backbone, image_size=config.image_size), CLASSES)[0]


def rotation_of(config: RunConfig) -> Rotation:
    return exchanged(config, load_record(config.backbone, image_size=config.image_size), CLASSES)[1]


def state_of(manifest: Manifest, seed: int = 0) -> PeftState:
    """Reproducible values, normally distributed."""
    rng = np.random.default_rng(seed)
    tensors = {spec.name: rng.standard_normal(spec.shape).astype(np.float32) for spec in manifest.tensors}
    return PeftState.from_tensors(manifest, tensors)


def scores(right: int, wrong: int) -> Scores:
    """``right`` of each class as it should be, ``wrong`` of each class mistaken."""
    counts = [right, wrong, wrong, right]
    return Scores(2 * (right + wrong), 0.7, Classification(CLASSES).metrics_of_counts(counts), counts)


Twist = Callable[[Message, Any], Message | None]
"""Changes a reply: gets the request's message and the reply as it should be."""


@dataclass
class ScriptedSite:
    """A site that adds ``step`` to every number it is sent.

    Args:
        name: of the site.
        initial: state that it joins with.
        step: its "training".
        samples: training images.
        twists: by ``"join"``, ``"reference"``, or round: what to do instead of answering well.
        right: of 10 test images per class, how many the federated state gets right here.
        own: likewise the site's own copy, personalised after the last round; None for no such copy.
        rotation: of the run's method; the site then keeps the global state, as a real one does.
        wholes: the global state of every visit, once put together.
        store: what it keeps; emptied, it has lost everything.
    """

    name: str
    initial: PeftState
    step: float = 1.0
    samples: int = 10
    right: int = 8
    own: int | None = None
    rotation: Rotation = field(default_factory=Rotation)
    twists: dict[str | int, Twist] = field(default_factory=dict)
    visits: list[Any] = field(default_factory=list)
    wholes: list[PeftState] = field(default_factory=list)
    store: dict[str, Any] = field(default_factory=dict)

    def __call__(self, message: Message, context: Context) -> Message | None:
        kind = message.metadata.message_type
        if kind == wire.JOIN:
            key, reply = "join", self._join(wire.decode_join_request(message.content).send_state)
        elif kind == wire.REFERENCE:
            key, reply = "reference", self._reference(wire.decode_reference_request(message.content).kind)
        else:
            request = wire.decode_visit_request(message.content)
            self.visits.append(request)
            try:
                key, reply = request.round, self._visit(request)
            except SiteError as refusal:
                return Message(Error(int(refusal.code), refusal.reason), reply_to=message)
        if key in self.twists:
            return self.twists[key](message, reply)
        return Message(wire.encode(reply), reply_to=message)

    def _join(self, send_state: bool) -> JoinReply:
        return JoinReply(
            site=self.name,
            classes="\n".join(CLASSES),
            synthetic=True,
            fingerprint=FINGERPRINT,
            manifest_hash=self.initial.manifest.hash,
            state_hash=self.initial.hash(),
            samples={"train": self.samples, "val": 20, "test": 20},
            state=self.initial.encode() if send_state else None,
        )

    def _visit(self, request: Any) -> VisitReply:
        whole = whole_state(request, self.rotation, Contract(self.initial.manifest), self.initial, self.store)
        self.wholes.append(whole)
        self.store = kept_state(whole, self.rotation)
        trained = whole.only(self.rotation.part(whole.manifest, self.rotation.read(request.train))).encode()
        moved = {part: vector + np.float32(self.step) for part, vector in trained.vectors.items()}
        tests = {"test": scores(self.right, 10 - self.right)} if request.last else {}
        if request.last and self.own is not None:
            tests["own-test"] = scores(self.own, 10 - self.own)
        return VisitReply(
            site=self.name,
            round=request.round,
            before={"val": scores(5 + min(request.round, 5), 5 - min(request.round, 5)), **tests},
            samples=self.samples,
            loss=math.nan if request.last else 0.5,
            steps=0 if request.last else 10,
            seconds=0.1,
            state=None if request.last else EncodedState(trained.manifest_hash, moved),
        )

    def _reference(self, kind: Any) -> ReferenceReply:
        if kind == "pooled":
            tests = {f"test/site-{index}": scores(9, 1) for index in range(3)}
            return ReferenceReply(self.name, kind, {**tests, "union": scores(27, 3)}, 0.1)
        return ReferenceReply(self.name, kind, {"test": scores(7, 3), "union": scores(18, 12)}, 0.1)


def federation_of(config: RunConfig, count: int = 3) -> dict[int, ScriptedSite]:
    """``site-0``, ``site-1``, ... at nodes 11, 12, ...; site i steps by i + 1 and has 10 (i + 1) images."""
    initial, rotation = state_of(manifest_of(config)), rotation_of(config)
    return {
        11 + index: ScriptedSite(
            f"site-{index}", initial, step=index + 1.0, samples=10 * (index + 1), rotation=rotation
        )
        for index in range(count)
    }


def changed(**changes: Any) -> Twist:
    """Answer with some fields changed."""
    return lambda message, reply: Message(wire.encode(replace(reply, **changes)), reply_to=message)


def with_vectors(change: Callable[[str, np.ndarray], np.ndarray]) -> Twist:
    """Answer with every vector of the state changed."""

    def twist(message: Message, reply: Any) -> Message:
        vectors = {part: change(part, vector) for part, vector in reply.state.vectors.items()}
        return changed(state=EncodedState(reply.state.manifest_hash, vectors))(message, reply)

    return twist


def raising(message: Message, reply: Any) -> Message:
    raise RuntimeError(f"first line\n{PATIENT}: /data/{PATIENT}.png")


def silent(message: Message, reply: Any) -> None:
    return None


def refusing(message: Message, reply: Any) -> Message:
    return Message(Error(102, "too few images can be read"), reply_to=message)


def garbage(message: Message, reply: Any) -> Message:
    """Records that have nothing to do with the protocol."""
    content = RecordDict(
        {"x": ConfigRecord({"a": 1}), "y": MetricRecord({"b": [1.0]}), "z": ArrayRecord({"c": Array(np.zeros(3))})}
    )
    return Message(content, reply_to=message)


def broken_array(message: Message, reply: Any) -> Message:
    """A state whose bytes announce an array far larger than any memory."""
    content = wire.encode(reply)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999,), }"
    data = header + b" " * (127 - len(header)) + b"\n"
    vast = Array("float32", (999999999999999,), "numpy.ndarray", data)
    content["state"] = ArrayRecord(dict.fromkeys(content.array_records["state"], vast))
    return Message(content, reply_to=message)


def untrained(message: Message, reply: Any) -> Message:
    sent = wire.decode_visit_request(message.content).state
    return changed(state=sent)(message, reply)
