"""What computing once what stays frozen is worth, for methods that leave it as it is.

Trains with and without the cache, in turn, in one process, and prints the ratio of the two times; the cache's time
includes filling it. By default the head on phantoms (synthetic), whose features are kept; with a METER and a method
that acts behind its towers, what the towers gave of each image and each question is kept.

    python -m benchmarks.frozen_features --steps 60 --repeats 5
    python -m benchmarks.frozen_features --method 'lora(where=fusion)' --task vqa --partition natural \\
        --data 'vqa-rad(path=/data/vqa_rad)' --image-size 112 \\
        --backbone 'meter(vision=/models/vit-tiny, text=/models/minilm, hidden_size=192, depth=2, heads=3)'
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
from fedmedpeft.data.source import Source
from fedmedpeft.learner import Learner, build_learner, load_configured
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.answers import frequent_answers
from fedmedpeft.tasks.reading import text_reader
from fedmedpeft.training import FeatureCache, LocalTrainer


def seconds(learner: Learner, config: RunConfig, site: SiteData, cache: FeatureCache | None, steps: int) -> float:
    """Wall time of ``steps`` local steps."""
    trainer = LocalTrainer(learner, config, cache=cache)
    began = time.perf_counter()
    trainer.train(site.train, first_step=0, steps=steps, seed=0)
    return time.perf_counter() - began


def set_up(config: RunConfig) -> tuple[Learner, SiteData]:
    """The learner, and the first site of the partition."""
    source = build_source(config.data)
    partition = partition_for(config, source, config.sites)
    backbone = load_configured(config)
    preprocessing = backbone.record.preprocessing
    site = load_site(
        source,
        partition,
        partition.sites[0],
        image_size=preprocessing.image_size,
        interpolation=preprocessing.interpolation,
        texts=text_reader(config, backbone),
    )
    return build_learner(config, _classes(config, source, site), backbone), site


def _classes(config: RunConfig, source: Source, site: SiteData) -> tuple[str, ...]:
    task = build_task(config.task)
    return tuple(frequent_answers(site.train.answers or (), task.least)) if task.agrees else source.table.classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps of each training")
    parser.add_argument("--repeats", type=int, default=5, help="pairs to measure")
    chosen = {"method": "head", "partition": "iid", "task": "classification", "data": "", "backbone": ""}
    for key, default in chosen.items():
        parser.add_argument(f"--{key}", default=default, help="as for `fedmedpeft run`")
    parser.add_argument("--image-size", type=int, default=0, help="as for `fedmedpeft run`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {key: getattr(arguments, key) for key in chosen if getattr(arguments, key)}
    counts = {"rounds": 1, "local-steps": arguments.steps, "image-size": arguments.image_size}
    config = RunConfig.from_mapping(given | counts)
    learner, site = set_up(config)
    ratios = []
    for _ in range(arguments.repeats):
        plain = seconds(learner, config, site, None, arguments.steps)
        cached = seconds(learner, config, site, FeatureCache(), arguments.steps)
        ratios.append(plain / cached)
        print(f"without {plain:.2f} s, with {cached:.2f} s: {ratios[-1]:.1f} x", flush=True)
    size = learner.backbone.record.preprocessing.image_size
    found = f"{len(site.train)} rows about {len(site.train.images)} images at {size} px"
    print(f"median of {len(ratios)}: {statistics.median(ratios):.1f} x faster, {found}")


if __name__ == "__main__":
    main()
