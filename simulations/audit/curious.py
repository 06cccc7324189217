"""A curious server: it sends what it should, and looks at what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from simulations.audit.candidates import CandidateGradients
from simulations.audit.finding import Figure, Finding
from simulations.audit.gradient_matching import match_gradient, single_label
from simulations.audit.head_features import image_of_feature, read_features
from simulations.audit.image_scores import ImageScores, mean_scores, score_images
from simulations.audit.image_search import Search
from simulations.audit.scene import Scene, Sent
from simulations.audit.site_update import Update
from simulations.audit.strip import strip

Row = tuple[str | float | int, ...]

COLUMNS = ("attack", "images in the step", "what was sent", "PSNR (dB)", "SSIM", "identified", "by chance")
HELD = "images it holds"
_WEIGHT, _BIAS = "head.weight", "head.bias"
STEPS = {"quick": 50, "full": 300}
"""Of gradient descent, for one image."""
_RATE, _PENALTY = 0.1, 1e-3


@dataclass(frozen=True)
class CuriousAttack:
    """Attacks of one server on one site, which share what it has computed of its candidates."""

    scene: Scene
    _known: list[CandidateGradients] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return STEPS[self.scene.run.effort]

    def from_head(self, update: Update, places: torch.Tensor) -> torch.Tensor | None:
        """Images of the features that the head's gradient tells; None where the head is not exchanged."""
        if not {_WEIGHT, _BIAS} <= update.keys():
            return None
        features = read_features(update[_WEIGHT], update[_BIAS])[: len(places)]
        return image_of_feature(self.scene.learner(), features, self.scene.span, self._search(self.steps))

    def from_gradient(self, update: Update, places: torch.Tensor) -> torch.Tensor:
        """Images with the same gradient; the label of a single one is read, those of a batch are given."""
        scene, alone = self.scene, len(places) == 1
        labels = scene.victims(places).labels
        if alone and _BIAS in update:
            labels = torch.tensor([single_label(update[_BIAS])])
        search = self._search(self.steps if alone else self.steps // 3)
        return match_gradient(scene.learner(), update, labels, scene.span, search, scene.run.seed)

    def recognised(self, update: Update, places: torch.Tensor) -> float:
        """Share of the victims among the candidates that fit best, as many as there are victims."""
        if not self._known:
            scene = self.scene
            self._known.append(CandidateGradients.of(scene.learner(), scene.candidates, scene.names))
        found = set(self._known[0].recognise(update, len(places)).tolist())
        return sum(place in found for place in places.tolist()) / len(places)

    def _search(self, steps: int) -> Search:
        return Search(steps, _RATE, _PENALTY)


def curious_server(scene: Scene) -> Finding:
    """Everything that is known to work on an update of an honest state."""
    attack, rows, figures = CuriousAttack(scene), [], []
    for batch in (1, 8):
        if batch <= len(scene.rows):
            for sent in sent_kinds(scene):
                scene.run.say(f"inversion: {images_of(batch)}, {sent}")
                found, figure = _attacked(attack, batch, sent)
                rows += found
                figures += figure
            rows += _baselines(scene, batch)
    return Finding(
        title="Rebuilding images from an honest run's updates",
        summary=_summary(rows),
        columns=COLUMNS,
        rows=tuple(rows),
        figures=tuple(figures),
        notes=NOTES,
    )


NOTES = (
    "The server's best case: it knows which images it looks for among the candidates, holds the site's validation "
    "images as public ones, and the site's step had no other image. A real visit mixes many.",
    "'Identified': the original is the nearest of the candidates to a rebuilt image; 'by chance': what guessing gives. "
    "A blurred image that identifies a patient is a leak.",
    "'Images it holds' rebuilds nothing: a server that has the very image computes what it would have sent.",
    "An attack that fails proves nothing: a better one may not.",
)


def sent_kinds(scene: Scene) -> Iterator[Sent]:
    """What the server may get of this run; private where there is a privacy to compare with."""
    yield "one gradient"
    yield "a whole visit"
    if scene.run.privacy is not None:
        yield "one gradient, private"


def _attacked(attack: CuriousAttack, batch: int, sent: Sent) -> tuple[list[Row], list[Figure]]:
    scene = attack.scene
    named: dict[str, Callable[[Update, torch.Tensor], torch.Tensor | None]] = {
        "feature from the head": attack.from_head,
        "gradient matching": attack.from_gradient,
    }
    repeats = repeats_of(scene, batch)
    updates = [(places, scene.observe(places, sent)) for places in repeats]
    rows: list[Row] = []
    shown = [scene.victims(repeats[0]).images]
    for name, rebuild in named.items():
        rebuilt = [(places, rebuild(update, places)) for places, update in updates]
        scores = [scored(scene, images, places) for places, images in rebuilt if images is not None]
        if scores:
            rows.append(table_row(name, batch, sent, mean_scores(scores), scene))
            shown += [images for _, images in rebuilt[:1] if images is not None]
    share = sum(attack.recognised(update, places) for places, update in updates) / len(updates)
    rows.append((HELD, batch, sent, "-", "-", share, batch / len(scene.rows)))
    caption = f"{images_of(batch)}, {sent}. Rows: originals, {', '.join(str(row[0]) for row in rows[:-1])}."
    return rows, [Figure(caption, strip(shown))]


def _baselines(scene: Scene, batch: int) -> list[Row]:
    """What numbers mean: the same scores of images that know nothing of the victims."""
    blind = {"none: the mean public image": scene.span.mean[None], "none: another image": scene.public[:1]}
    return [
        table_row(name, batch, "-", mean_scores([scored(scene, image, p) for p in repeats_of(scene, batch)]), scene)
        for name, image in blind.items()
    ]


def images_of(batch: int) -> str:
    """For a person who reads.

    >>> images_of(1), images_of(8)
    ('1 image', '8 images')
    """
    return f"{batch} image{'s' * (batch != 1)}"


def repeats_of(scene: Scene, batch: int) -> list[torch.Tensor]:
    """The victims of several attacks, whose scores are averaged."""
    wanted = {"quick": (2, 1), "full": (8, 2)}[scene.run.effort][batch > 1]
    return [scene.places(batch, number) for number in range(min(wanted, len(scene.rows) // batch))]


def scored(scene: Scene, images: torch.Tensor, places: torch.Tensor) -> ImageScores:
    return score_images(images, scene.victims(places).images, scene.candidates.images, places)


def table_row(name: str, batch: int, sent: str, scores: ImageScores, scene: Scene) -> Row:
    chance = min(batch, len(scene.rows)) / len(scene.rows)
    return (name, batch, sent, scores.psnr, scores.ssim, scores.identified, chance)


def _summary(rows: list[Row]) -> str:
    clear, private = (_best(rows, sent) for sent in ("one gradient", "one gradient, private"))
    assert clear is not None
    held = " It rebuilds nothing: the server had the image." if clear[0] == HELD else ""
    less = "" if private is None else f" With privacy: {float(private[5]):.0%}."
    return (
        f"From the update of a step with one image, '{clear[0]}' tells which image it was in {float(clear[5]):.0%} of "
        f"the cases (guessing: {float(clear[6]):.0%}).{held}{less}"
    )


def _best(rows: list[Row], sent: Sent) -> Row | None:
    """Of the attacks on one image those that recognise most; an attack that rebuilds comes before one that does not."""
    told = [row for row in rows if row[1] == 1 and row[2] == sent]
    return max(told, key=lambda row: (float(row[5]), row[0] != HELD), default=None)
