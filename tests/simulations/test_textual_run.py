"""A federation whose head is words: class names through CLIP's text tower."""

from __future__ import annotations

from pathlib import Path

import torch

from fedmedpeft import load
from fedmedpeft.adapter_file import read_adapter
from tests.simulations.conftest import run_in_process, tiny_config


def test_words_and_lora_are_learned_together_and_loaded_again(tiny_clip_pair: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_clip_pair, tmp_path, method="textual-prompts(context=2)+lora(rank=2)", references="none")
    run = run_in_process(config)
    state = read_adapter(run / "adapter").state.tensors()
    assert state["text.context"].shape == (2, 8)
    assert not [name for name in state if name.startswith("head.")]
    learner = load(run / "adapter", device="cpu")
    start = learner.trainables["text.context"].parameter.new_tensor(state["text.context"])
    assert torch.equal(learner.trainables["text.context"].parameter, start)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert learner(images).shape == (2, len(learner.task.classes))
