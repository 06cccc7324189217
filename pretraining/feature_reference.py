"""The statistics of the pretraining images' features: ``python -m pretraining.feature_reference``.

They ship beside the weights, for `privacy='auto(...)'`. All images are computed from formulas: nobody is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from fedmedpeft.backbones import EMBEDDED, Backbone, load_backbone
from fedmedpeft.backbones.checkpoint_files import embedded_directory
from fedmedpeft.privacy.domain_distance import make_reference
from fedmedpeft.privacy.domain_reference import REFERENCE_FILE, FeatureReference
from pretraining.colouring import colour
from pretraining.formulas import render_corpus
from pretraining.pretrain import SIZE, Recipe


def reference_of_formulas(backbone: Backbone, renderings: int, seed: int) -> FeatureReference:
    """Of every formula of the recipe so many renderings, coloured as in training."""
    maps, _ = render_corpus(Recipe.categories, renderings, SIZE, seed)
    features = _features(backbone, torch.from_numpy(maps), torch.Generator().manual_seed(seed))
    source = f"{len(features):,} images computed from formulas"
    return make_reference(features, torch.arange(len(features)), fingerprint=backbone.fingerprint, source=source)


@torch.no_grad()
def _features(backbone: Backbone, maps: Tensor, generator: torch.Generator) -> Tensor:
    return torch.cat([backbone(colour(chunk, SIZE, generator)[0]) for chunk in maps.split(64)])


def main(
    out: Annotated[Path | None, typer.Option(help="File to write; else beside the embedded weights.")] = None,
    renderings: Annotated[int, typer.Option(min=1, help="Images of each formula.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="As in pretraining: decides the formulas.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
) -> None:
    """Write the reference of the embedded backbone."""
    torch.set_num_threads(threads)
    path = out or embedded_directory() / REFERENCE_FILE
    reference = reference_of_formulas(load_backbone(EMBEDDED), renderings, seed)
    reference.save(path)
    typer.echo(f"{path}: {reference.samples} images, threshold {reference.threshold:.3f}")


if __name__ == "__main__":
    typer.run(main)
