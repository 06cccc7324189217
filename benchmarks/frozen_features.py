"""What computing the frozen features once is worth, for methods that leave them as they are.

Trains the head on phantoms (synthetic) with and without the cache, in turn, in one process, and prints the ratio of the
two times; the cache's time includes filling it.

    python -m benchmarks.frozen_features --steps 60 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from fedmedpeft.config import RunConfig
from fedmedpeft.data import build_source
from fedmedpeft.data.run_partition import partition_for
from fedmedpeft.data.site_data import SiteData, load_site
from fedmedpeft.learner import Learner, build_learner
from fedmedpeft.training import FeatureCache, LocalTrainer


def seconds(learner: Learner, config: RunConfig, site: SiteData, cache: FeatureCache | None, steps: int) -> float:
    """Wall time of ``steps`` local steps."""
    trainer = LocalTrainer(learner, config, cache=cache)
    began = time.perf_counter()
    trainer.train(site.train, first_step=0, steps=steps, seed=0)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of each training")
    parser.add_argument("--repeats", type=int, default=5, help="pairs to measure")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = RunConfig.from_mapping({"method": "head", "partition": "iid", "rounds": 1, "local-steps": arguments.steps})
    source = build_source(config.data)
    learner = build_learner(config, source.table.classes)
    size = learner.backbone.record.preprocessing.image_size
    site = load_site(source, partition_for(config, source, 4), "site-0", image_size=size)
    ratios = []
    for _ in range(arguments.repeats):
        plain = seconds(learner, config, site, None, arguments.steps)
        cached = seconds(learner, config, site, FeatureCache(), arguments.steps)
        ratios.append(plain / cached)
        print(f"without {plain:.2f} s, with {cached:.2f} s: {ratios[-1]:.1f} x", flush=True)
    images = len(site.train.labels)
    print(f"median of {len(ratios)}: {statistics.median(ratios):.1f} x faster, {images} images at {size} px")


if __name__ == "__main__":
    main()
