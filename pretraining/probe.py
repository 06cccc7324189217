"""Does the pretraining pay? ``python -m pretraining.probe FOLDER``: frozen features under a linear classifier."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import ViTModel

from fedmedpeft.data import DataError, Source, build_source
from pretraining.artefact import read_artefact
from pretraining.colouring import MEAN, STD, colour
from pretraining.formulas import render_corpus
from pretraining.objective import build_backbone

SIZE = 64
PIXEL_SIDE = 16  # the pixel baseline sees 16 x 16 RGB: 768 numbers, four times as many as the features
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
UNSEEN = 1_000_003  # a world of formulas that no recipe pretrains on by accident

Features = Callable[[Tensor], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ProbeSet:
    """Images (N, 3, SIZE, SIZE) as the network takes them, labels (N,) and which rows are the test."""

    name: str
    images: Tensor
    labels: npt.NDArray[np.int64]
    test: npt.NDArray[np.bool_]


def features_of(backbone: ViTModel) -> Features:
    """CLS after the final layer norm, (N, width)."""

    @torch.no_grad()
    def compute(images: Tensor) -> npt.NDArray[np.float32]:
        chunks = [backbone(chunk).last_hidden_state[:, 0] for chunk in torch.split(images, 128)]
        return np.asarray(torch.cat(chunks).numpy(), np.float32)

    return compute


def pixels_of(images: Tensor) -> npt.NDArray[np.float32]:
    """The images themselves, averaged down."""
    return np.asarray(torch.nn.functional.adaptive_avg_pool2d(images, PIXEL_SIDE).flatten(1).numpy(), np.float32)


def random_backbone(seed: int) -> ViTModel:
    """The same network as it is before any training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_backbone(SIZE)


def score(features: npt.NDArray[np.float32], data: ProbeSet) -> float:
    """Balanced accuracy on the test rows; the regularisation is chosen on a fifth of the other rows."""
    x, y = features[~data.test], data.labels[~data.test]
    fit_x, held_x, fit_y, held_y = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)

    def held_score(strength: float) -> float:
        return float(balanced_accuracy_score(held_y, _classifier(strength).fit(fit_x, fit_y).predict(held_x)))

    predicted = _classifier(max(STRENGTHS, key=held_score)).fit(x, y).predict(features[data.test])
    return float(balanced_accuracy_score(data.labels[data.test], predicted))


def _classifier(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500, class_weight="balanced"))


def unseen_formulas(categories: int = 60, renderings: int = 40) -> ProbeSet:
    """Formulas outside every training seed, coloured as in training; a quarter of the renderings is the test."""
    maps, labels = render_corpus(categories, renderings, SIZE, UNSEEN)
    generator = torch.Generator().manual_seed(UNSEEN)
    chunks = [colour(chunk, SIZE, generator)[0] for chunk in torch.split(torch.from_numpy(maps), 256)]
    return ProbeSet("unseen formulas", torch.cat(chunks), labels, np.arange(len(labels)) % 4 == 3)


def from_source(name: str, source: Source) -> ProbeSet:
    """A data set with its own test split, or, where it has none, a random quarter of its rows."""
    table = source.table
    if table.splits is not None:
        test = np.array([split == "test" for split in table.splits])
    else:
        test = np.random.default_rng(0).random(len(table)) < 0.25
    images = torch.stack([_as_input(source.image(row)) for row in range(len(table))])
    return ProbeSet(name, images, table.labels, test)


def _as_input(image: Image.Image) -> Tensor:
    pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - MEAN) / STD


def source_specs(root: Path) -> dict[str, str]:
    """The sets that are probed; the real ones serve this evaluation alone."""
    classes = "eosinophil,lymphocyte,monocyte,neutrophil"
    return {
        "phantoms": "phantoms(images=2400, seed=17)",
        "blood cells": f"manifest(path='{root}/blood_cells_multisite/labels.csv', classes='{classes}')",
        "breast": f"medmnist(path='{root}/medmnist/breastmnist.npz')",
        "pneumonia": f"medmnist(path='{root}/medmnist/pneumoniamnist.npz')",
    }


def markdown(sets: list[ProbeSet], rows: dict[str, list[list[float]]]) -> str:
    """One line per kind of features; each cell is a score in per cent, with the deviation over seeds if several."""
    head = " | ".join(f"{data.name} ({data.test.sum()} test)" for data in sets)
    lines = [f"| features | {head} |", "|---" * (len(sets) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(scores) for scores in cells) + " |")
    return "\n".join(lines)


def _cell(scores: list[float]) -> str:
    mean = f"{100 * float(np.mean(scores)):.1f}"
    return mean if len(scores) == 1 else f"{mean} ± {100 * float(np.std(scores)):.1f}"


def main(
    folders: Annotated[list[Path] | None, typer.Argument(help="Artefacts to probe, if any.")] = None,
    seeds: Annotated[int, typer.Option(min=0, help="Random initialisations to compare with.")] = 3,
    only: Annotated[str, typer.Option(help="Names of the sets, by commas; empty for all.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
) -> None:
    """Balanced accuracy of a logistic regression on frozen features, as a Markdown table."""
    torch.set_num_threads(threads)
    root = Path(os.environ.get("FEDMEDPEFT_DATA", "../shared")) / "data"
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    sets = [] if wanted and "unseen formulas" not in wanted else [unseen_formulas()]
    for name, spec in source_specs(root).items():
        if wanted and name not in wanted:
            continue
        try:
            sets.append(from_source(name, build_source(spec)))
        except DataError as error:
            typer.echo(f"{name} is left out: {error}", err=True)
    extractors = {str(folder): [features_of(read_artefact(folder))] for folder in folders or []}
    if seeds:
        extractors[f"random initialisation, {seeds} seeds"] = [features_of(random_backbone(s)) for s in range(seeds)]
    extractors[f"pixels, {PIXEL_SIDE} x {PIXEL_SIDE} RGB"] = [pixels_of]
    rows = {
        name: [[score(extract(data.images), data) for extract in several] for data in sets]
        for name, several in extractors.items()
    }
    typer.echo(markdown(sets, rows))


if __name__ == "__main__":
    typer.run(main)
