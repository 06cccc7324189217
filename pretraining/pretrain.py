"""Make the embedded backbone: ``python -m pretraining.pretrain --out FOLDER``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from pretraining.artefact import read_artefact, write_artefact
from pretraining.colouring import colour
from pretraining.formulas import render_corpus
from pretraining.objective import Losses, Pretext, build_backbone

SIZE = 64


@dataclass(frozen=True)
class Recipe:
    """All that decides the outcome, apart from the number formats of the processor."""

    seed: int = 0
    categories: int = 400
    renderings: int = 150
    phases: tuple[tuple[int, int], ...] = ((32, 6000), (48, 1500), (64, 1100))  # (resolution, steps)
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.05
    description: float = 1.0  # weight of this loss against the category's
    masks: float = 1.0  # likewise
    width: int = 192
    depth: int = 8
    until: int = 0  # stop after this step although the schedule goes on; 0 for its end
    start: Path | None = None  # artefact to go on from; the heads begin anew

    @property
    def steps(self) -> int:
        return sum(steps for _, steps in self.phases)

    @property
    def last(self) -> int:
        return min(self.until or self.steps, self.steps)

    def resolution(self, step: int) -> int:
        """Image side at a step: small images come first, for they cost a quarter and teach nearly as much."""
        for resolution, steps in self.phases:
            if step < steps:
                return resolution
            step -= steps
        return self.phases[-1][0]

    def rate_at(self, step: int) -> float:
        """Linear warm-up over a twentieth of the steps, then a cosine down to a hundredth of the rate."""
        warm = max(1, self.steps // 20)
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))))


def parse_phases(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``32:3000,64:800``.

    Raises:
        typer.BadParameter: not that form, or a resolution that patches of 8 px do not tile.
    """
    try:
        phases = tuple((int(part.split(":")[0]), int(part.split(":")[1])) for part in text.split(","))
    except (ValueError, IndexError):
        raise typer.BadParameter(f"'{text}' is not RESOLUTION:STEPS,RESOLUTION:STEPS, as in 32:3000,64:800.") from None
    for resolution, steps in phases:
        if resolution % 8 or not 16 <= resolution <= SIZE or steps < 1:
            wrong = f"'{resolution}:{steps}'"
            raise typer.BadParameter(f"{wrong}: expected a multiple of 8 in 16..{SIZE}, and a step or more.")
    return phases


def pretrain(recipe: Recipe, out: Path, every: int = 200, bf16: bool = True) -> dict[str, Tensor]:
    """Train and write the artefact to ``out`` each ``every`` steps and at the end; returns the averaged weights."""
    started = time.monotonic()
    maps, labels = (torch.from_numpy(a) for a in render_corpus(recipe.categories, recipe.renderings, SIZE, recipe.seed))
    typer.echo(f"{len(maps)} renderings of {recipe.categories} formulas in {time.monotonic() - started:.0f} s")
    model, generator = _model(recipe), torch.Generator().manual_seed(recipe.seed)
    optimizer = _optimizer(model, recipe)
    average = {name: tensor.detach().clone() for name, tensor in model.backbone.state_dict().items()}
    order = torch.empty(0, dtype=torch.int64)
    for step in range(recipe.last):
        if len(order) < recipe.batch:
            order = torch.randperm(len(maps), generator=generator)
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        images, masks = colour(maps[chosen], recipe.resolution(step), generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = model.losses(images, masks, labels[chosen])
        _update(model, optimizer, losses, recipe, step)
        _follow(average, model.backbone.state_dict(), step)
        if (step + 1) % every == 0 or step + 1 == recipe.last:
            write_artefact(model.backbone, average, out)
            typer.echo(
                f"step {step + 1}/{recipe.steps} at {recipe.resolution(step)} px, {time.monotonic() - started:.0f} s: "
                + ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses._asdict().items())
            )
    return average


def _model(recipe: Recipe) -> Pretext:
    """The network at its start. Transformers initialises from the global generator, which is put back on leaving."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        backbone = build_backbone(SIZE, recipe.width, recipe.depth)
        if recipe.start is not None:
            backbone.load_state_dict(read_artefact(recipe.start).state_dict())
        return Pretext(backbone, recipe.categories)


def _update(model: Pretext, optimizer: torch.optim.Optimizer, losses: Losses, recipe: Recipe, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate_at(step)
    total = losses.category + recipe.description * losses.description + recipe.masks * losses.masks
    torch.autograd.backward(total)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _optimizer(model: Pretext, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW that decays matrices only: decaying biases, norms and position embeddings has no use."""
    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2 and "embeddings.position" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim < 2 or "embeddings.position" in name]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def _follow(average: dict[str, Tensor], weights: dict[str, Tensor], step: int) -> None:
    """Exponential moving average that forgets slowly, but not while there is little to remember."""
    keep = min(0.998, (1 + step) / (10 + step))
    for name, tensor in weights.items():
        average[name].lerp_(tensor, 1 - keep)


def main(
    out: Annotated[Path, typer.Option(help="Folder that receives the artefact.")],
    seed: Annotated[int, typer.Option(help="Decides formulas, renderings, initialisation and order.")] = 0,
    categories: Annotated[int, typer.Option(min=2, help="Formulas to tell apart.")] = Recipe.categories,
    renderings: Annotated[int, typer.Option(min=1, help="Renderings of each formula, 8 KiB each.")] = Recipe.renderings,
    phases: Annotated[str, typer.Option(help="RESOLUTION:STEPS, in order.")] = "32:6000,48:1500,64:1100",
    batch: Annotated[int, typer.Option(min=2, help="Images a step.")] = Recipe.batch,
    description: Annotated[float, typer.Option(min=0, help="Weight of the description's loss.")] = Recipe.description,
    masks: Annotated[float, typer.Option(min=0, help="Weight of the masks' loss.")] = Recipe.masks,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = Recipe.rate,
    until: Annotated[int, typer.Option(min=0, help="Stop after this step of the schedule; 0 for its end.")] = 0,
    start: Annotated[Path | None, typer.Option(help="Go on from this artefact, with new heads.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps between two writes of the artefact.")] = 200,
    bf16: Annotated[bool, typer.Option(help="Multiply in bfloat16, faster where the processor has it.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
) -> None:
    """Pretrain the embedded backbone on images computed from formulas, on a CPU, from one seed."""
    torch.set_num_threads(threads)
    recipe = Recipe(
        seed=seed,
        categories=categories,
        renderings=renderings,
        phases=parse_phases(phases),
        batch=batch,
        description=description,
        masks=masks,
        rate=rate,
        until=until,
        start=start,
    )
    pretrain(recipe, out, every, bf16)


if __name__ == "__main__":
    typer.run(main)
