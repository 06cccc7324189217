"""Classes of images with a sentence each, one rule that only the sentence tells and one that only the image tells.

Images and sentences are synthetic.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.simulations.conftest import SITES, run_in_process, tiny_config

_IMAGES = 72


def _write(directory: Path, rule: str) -> Path:
    """A manifest of images, bright or dark, with a sentence of fluid or of a mass, each independently of the other.

    The label is the one or the other; whoever reads the wrong one knows nothing.
    """
    generator = np.random.default_rng(0)
    lines = ["file,text,label,site"]
    for index in range(_IMAGES):
        bright, fluid = generator.integers(0, 2, 2)
        pixels = 60 + 130 * bright + generator.normal(0, 10, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / f"{index}.png")
        label = bright if rule == "image" else fluid
        text = f"{generator.choice(['there is', 'in the image'])} {'fluid' if fluid else 'a mass'}"
        lines.append(f"{index}.png,{text},{'positive' if label else 'negative'},hospital-{index % SITES}")
    path = directory / f"{rule}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("rule", ["text", "image"])
def test_what_only_one_of_them_tells_is_learned(tiny_meter: str, tmp_path: Path, rule: str) -> None:
    config = tiny_config(
        Path(tiny_meter),
        tmp_path,
        data=f"manifest(path='{_write(tmp_path, rule)}')",
        partition="natural",
        method="layernorm+lora(where=fusion)",
        personal="none",
        references="none",
        **{
            "rounds": 2,
            "learning-rate": 1e-2,
            "local-steps": 40 if rule == "text" else 15,
            "batch-size": 8,
            "personalise-steps": 0,
        },
    )
    summary = json.loads((run_in_process(config) / "summary.json").read_text())
    assert summary["results"]["federated"]["union_metrics"]["balanced_accuracy"] > 0.85
