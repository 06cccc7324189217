"""What DP-SGD costs a site in time and memory, beside the same training without it, on one core.

Trains with and without privacy in turn, in one process, with equally many images in every step, and prints the ratio of
the two processor times for each method. Memory is the largest growth of a process above the loaded model, each in a
process of its own. Images are random; so are the weights of ``--vit-base``, on which neither depends.

    python -m benchmarks.private_training --steps 10 --repeats 5
    python -m benchmarks.private_training --vit-base --batch 8 --methods 'head,layernorm,lora(factors=ffa)'
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import opacus.grad_sample  # noqa: F401 - loading it is not what is measured
import torch
from transformers import ViTConfig, ViTModel

from fedmedpeft.backbones import load_backbone
from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.randomness import SystemRandomness
from fedmedpeft.tasks import Classification
from fedmedpeft.training import LocalTrainer
from fedmedpeft.training.private import DpSgd, PrivateTrainer

METHODS = ("head", "layernorm", "lora", "lora(factors='ffa')", "houlsby", "vpt-deep")
CLASSES = tuple("abcdefgh")


class FixedBatch(SystemRandomness):
    """Real noise; and as many units in every step as without privacy, or the two would not compare."""

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def uniform(self, count: int) -> torch.Tensor:
        drawn = super().uniform(count)
        return (drawn.argsort().argsort() >= self._batch).double()


def trainer_of(learner: Learner, batch: int, images: int, private: bool) -> LocalTrainer:
    config = RunConfig.from_mapping({"rounds": 1, "local-steps": 100, "batch-size": batch})
    if not private:
        return LocalTrainer(learner, config)
    dp = DpSgd(1.0, batch / images, physical_batch=batch, randomness=FixedBatch(batch))
    return PrivateTrainer(learner, config, dp=dp)


def set_up(backbone: str, method: str, images: int) -> tuple[Learner, Split]:
    learner = Learner(load_backbone(backbone), method, Classification(CLASSES), 0)
    size = learner.backbone.record.preprocessing.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    return learner, Split(pixels, torch.arange(images) % len(CLASSES), np.arange(images))


def seconds(trainer: LocalTrainer, split: Split, steps: int) -> float:
    """Processor time of ``steps`` local steps, which other processes do not lengthen."""
    began = time.process_time()
    trainer.train(split, first_step=0, steps=steps, seed=0)
    return time.process_time() - began


def noise_seconds(learner: Learner) -> float:
    """Processor time of one step's noise."""
    count = sum(trainable.parameter.numel() for trainable in learner.trainables.values())
    began = time.process_time()
    SystemRandomness().normal((count,), std=1.0)
    return time.process_time() - began


def megabytes(key: str) -> float:
    """Of this process, from the kernel: ``VmRSS`` now, or ``VmHWM``, the most since it was reset."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def growth(backbone: str, method: str, batch: int, private: bool) -> float:
    """Megabytes that a training takes above the loaded model, at most; to be asked once in a process."""
    learner, split = set_up(backbone, method, 4 * batch)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = megabytes("VmRSS")
    trainer_of(learner, batch, len(split), private).train(split, first_step=0, steps=4, seed=0)
    return megabytes("VmHWM") - before


def growth_in_a_process(backbone: str, method: str, batch: int, private: bool) -> float:
    code = (
        "import torch; torch.set_num_threads(1); from benchmarks.private_training import growth; "
        f"print(growth({backbone!r}, {method!r}, {batch}, {private}))"
    )
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def compare(backbone: str, method: str, batch: int, steps: int, repeats: int) -> str:
    """One line of the table."""
    learner, split = set_up(backbone, method, 8 * batch)
    trainers = [trainer_of(learner, batch, len(split), private) for private in (False, True)]
    for trainer in trainers:  # the check of the gradients is made once, and warms up
        seconds(trainer, split, 1)
    pairs = [[seconds(trainer, split, steps) for trainer in trainers] for _ in range(repeats)]
    ratio = statistics.median(private / plain for plain, private in pairs)
    step = statistics.median(plain for plain, _ in pairs) / steps
    noise = statistics.median(noise_seconds(learner) for _ in range(repeats))
    trained = sum(trainable.parameter.numel() for trainable in learner.trainables.values())
    plain, private = (growth_in_a_process(backbone, method, batch, private) for private in (False, True))
    return (
        f"{method:22} {trained:9} trained, {1e3 * step:7.1f} ms a step, noise {1e3 * noise:6.2f} ms: "
        f"time x {ratio:.2f}, memory {plain:6.0f} -> {private:6.0f} MB: x {private / plain:.2f}"
    )


def save_vit_base(directory: str) -> str:
    """A ViT-B/16 with random weights."""
    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(directory)
    return directory


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="optimiser steps of each training")
    parser.add_argument("--repeats", type=int, default=5, help="pairs to measure")
    parser.add_argument("--batch", type=int, default=16, help="images in each step")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--backbone", default="embedded", help="as for `fedmedpeft run`")
    parser.add_argument("--vit-base", action="store_true", help="a ViT-B/16 at 224 px instead")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        backbone = save_vit_base(directory) if chosen.vit_base else chosen.backbone
        for method in chosen.methods.split(","):
            print(compare(backbone, method, chosen.batch, chosen.steps, chosen.repeats), flush=True)


if __name__ == "__main__":
    main()
