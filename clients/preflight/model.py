"""The backbone, the device, and whether a batch fits into its memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.preflight.free_memory import free_memory
from clients.preflight.trial import Trial, try_batch
from fedmedpeft.learner import build_learner, load_configured, resolve_device
from fedmedpeft.starting_state import given_classes
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.reading import check_reading

_GIB = 2**30
_TIGHT = 0.8
"""Share of the free memory above which it is called tight."""


def check_device(facts: Facts) -> Result:
    """Is the device there?"""
    wanted = facts.site.device
    device = resolve_device(wanted)
    if device == "cpu":
        told = "training runs on the CPU"
        if wanted == "auto":
            return warned(
                f"{told}: 'device: auto' finds no GPU.",
                "If there is one, install its driver and a torch built for it; else set 'device: cpu'.",
            )
        return passed(f"{told}, as site.yaml says ({torch.get_num_threads()} threads).")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        return failed(
            f"'device: {wanted}' asks for a GPU that torch does not see (it sees {count}).",
            "Install the driver and a torch built for it, correct the number, or set 'device: cpu'.",
        )
    about = torch.cuda.get_device_properties(index)
    return passed(f"training runs on {about.name} with {about.total_memory / _GIB:.0f} GiB.")


def check_backbone(facts: Facts) -> Result:
    """Does it load, and is it the one that is accepted? Raises ConfigError as loading does."""
    facts.backbone = backbone = load_configured(facts.config)
    mark, accepted = backbone.fingerprint, facts.site.policy.backbones
    if accepted and mark not in accepted:
        return failed(
            f"the backbone here has fingerprint {mark}, which is none of those in 'policy.backbones'.",
            "Get the federation's files, or correct 'policy.backbones' after comparing with the coordinator.",
        )
    wanted = facts.config.backbone_fingerprint
    if wanted and mark != wanted:
        return failed(
            f"the run wants a backbone with fingerprint {wanted}; the one here has {mark}.",
            "Get the files that the coordinator names, and point 'backbones' to them.",
        )
    return passed(f"it loads; fingerprint {mark}.")


def check_memory(facts: Facts) -> Result:
    """One batch forwards, on the device, without any step: what does it take? Raises ConfigError as building does."""
    config, table = facts.config, facts.source.table
    check_reading(config, facts.source, facts.backbone)
    task = build_task(config.task)
    classes = task.of_data(table.classes).classes
    if task.agrees:
        classes = given_classes(config) or tuple(sorted(set(table.answers or ())))
    facts.learner = learner = build_learner(config, classes, facts.backbone)
    images = len(set(table.first_rows().tolist()))
    data = images * 3 * facts.backbone.record.preprocessing.image_size**2
    fits = "Set 'device' to a larger one, or ask the coordinator for a smaller batch-size or backbone."
    try:
        began = time.perf_counter()
        trial = try_batch(learner, config, facts.source, facts.partition.rows(facts.site.site, "train"))
        seconds = time.perf_counter() - began
    except torch.OutOfMemoryError:
        return failed(f"a batch of {config.batch_size} does not fit into the device's memory.", fits)
    needs = _needs(trial, data, learner.mean.device)
    told = f"a step of {trial.rows} takes about {needs.text()}; one batch forwards in {seconds:.2f} s"
    if needs.share > 1:
        return failed(f"{told}.", f"{fits} For main memory: other programs off this machine.")
    if needs.share > _TIGHT:
        return warned(f"{told}; that is tight.", "Stop other programs on this machine or device.")
    return passed(f"{told}.")


@dataclass(frozen=True)
class _Needs:
    """Bytes that training takes, and that are free, by where."""

    amounts: dict[str, tuple[int, int]]

    @property
    def share(self) -> float:
        return max(need / max(free, 1) for need, free in self.amounts.values())

    def text(self) -> str:
        return " and ".join(
            f"{need / _GIB:.2f} GiB of {free / _GIB:.1f} GiB free {where}"
            for where, (need, free) in self.amounts.items()
        )


def _needs(trial: Trial, data: int, device: torch.device) -> _Needs:
    main = free_memory()
    if device.type == "cuda":
        # What the trial holds already is free for training to take over.
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        return _Needs({"on the device": (trial.training_bytes, free), "in main memory": (data, main)})
    return _Needs({"in main memory": (data + trial.training_bytes, main + trial.model_bytes)})
