"""What switching between sites' PEFT states in place is worth, beside making the model anew for each.

Three ways to come from one site's model to the next one's, in turn, in one process: the state written into the learner
that is there; the learner built again around a copy of the backbone in memory; everything loaded from disk again. Each
ends with the same values, which is checked. Times are the medians of all switches; ratios are to the first way.

    python -m benchmarks.switch_states --methods lora vpt-deep peft:oft --sites 5 --rounds 4
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from fedmedpeft.backbones import EMBEDDED, Backbone, load_backbone
from fedmedpeft.exchange import PeftState
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification

_TASK = Classification(("a", "b", "c"))
_WAYS = ("in place", "learner anew", "all from disk")


def states_of(learner: Learner, sites: int) -> list[PeftState]:
    """A different state for each site."""
    manifest = learner.manifest()
    start = learner.export(manifest).tensors()
    return [
        PeftState.from_tensors(manifest, {name: values + 0.01 * (site + 1) for name, values in start.items()})
        for site in range(sites)
    ]


def seconds(switch: Callable[[PeftState], Learner], states: Sequence[PeftState]) -> list[float]:
    """Wall time of the switch to each state. Raises RuntimeError where one did not arrive."""
    times = []
    for state in states:
        began = time.perf_counter()
        learner = switch(state)
        times.append(time.perf_counter() - began)
        if learner.export(learner.manifest()).hash() != state.hash():
            raise RuntimeError("A state did not arrive as it was sent.")
    return times


def ways(backbone: str, frozen: Backbone, method: str) -> dict[str, Callable[[PeftState], Learner]]:
    """The three ways, by name."""
    standing = Learner(copy.deepcopy(frozen), method, _TASK, 0)

    def loaded(learner: Learner, state: PeftState) -> Learner:
        learner.load(state)
        return learner

    makes = (
        lambda state: loaded(standing, state),
        lambda state: loaded(Learner(copy.deepcopy(frozen), method, _TASK, 0), state),
        lambda state: loaded(Learner(load_backbone(backbone), method, _TASK, 0), state),
    )
    return dict(zip(_WAYS, makes, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default=EMBEDDED, help="name or directory")
    parser.add_argument("--methods", nargs="+", default=["lora", "layernorm", "vpt-deep", "peft:oft"])
    parser.add_argument("--sites", type=int, default=5, help="states to switch between")
    parser.add_argument("--rounds", type=int, default=4, help="times to visit every site, each way in turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frozen = load_backbone(arguments.backbone)
    print(
        f"{'method':<16}{'numbers':>12}"
        + "".join(f"{way:>16}" for way in _WAYS)
        + "".join(f"{'ratio':>9}" for _ in "12")
    )
    for method in arguments.methods:
        switches = ways(arguments.backbone, frozen, method)
        states = states_of(Learner(copy.deepcopy(frozen), method, _TASK, 0), arguments.sites)
        times: dict[str, list[float]] = {way: [] for way in _WAYS}
        for _ in range(arguments.rounds):
            for way, switch in switches.items():
                times[way] += seconds(switch, states)
        medians = [statistics.median(times[way]) for way in _WAYS]
        cells = "".join(f"{1e3 * median:>13.2f} ms" for median in medians)
        ratios = "".join(f"{median / medians[0]:>8.0f}x" for median in medians[1:])
        print(f"{method:<16}{states[0].manifest.numel():>12,}{cells}{ratios}", flush=True)


if __name__ == "__main__":
    main()
