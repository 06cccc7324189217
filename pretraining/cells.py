"""Cells: soft bodies with lobed nuclei and granules, the shapes that microscopes show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellFormula:
    """How cells of one kind look; lengths are shares of the image's half side."""

    cells: int
    body: float  # radius
    roughness: float  # how far the outline strays from a circle
    nucleus: float  # nucleus radius over body radius
    lobes: int
    spread: float  # distance of the lobes from the nucleus' centre, in nucleus radii
    granules: int  # per cell
    grain: float  # granule radius
    membrane: float  # tone of the rim

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CellFormula:
        cells = int(rng.choice([1, 1, 2, 3, 5, 8]))
        return cls(
            cells=cells,
            body=float(rng.uniform(0.5, 0.95) / np.sqrt(cells) ** 0.8),
            roughness=float(rng.uniform(0.0, 0.2)),
            nucleus=float(rng.uniform(0.25, 0.85)),
            lobes=int(rng.integers(1, 6)),
            spread=float(rng.uniform(0.3, 1.0)),
            granules=int(rng.choice([0, 0, 10, 30, 60])),
            grain=float(rng.uniform(0.03, 0.1)),
            membrane=float(rng.choice([0.0, 0.0, 0.5])),
        )

    def render(self, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """See :class:`pretraining.formulas.Formula`; variations place cells, lobes and granules anew."""
        axis = np.linspace(-1, 1, size)
        grid = np.stack(np.meshgrid(axis, axis, indexing="xy"))  # (2, size, size)
        cover, tone = np.zeros((2, count, size, size))
        for _ in range(self.cells):
            room = max(1 - self.body, 0.08)
            centre = rng.uniform(-room, room, (count, 2))
            body_map, tone_map = self._cell(grid, centre, rng)
            tone = tone * (1 - body_map) + tone_map * body_map
            cover = np.maximum(cover, body_map)
        return np.stack([cover, tone], 1).astype(np.float32)

    def _cell(self, grid: Floats, centre: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Cover and tone, each (count, size, size), of one cell around each of ``centre`` (count, 2)."""
        count = len(centre)
        body = self.body * rng.uniform(0.88, 1.12, count)
        x, y = (grid[i] - centre[:, i, None, None] for i in range(2))
        angle = np.arctan2(y, x)
        outline = np.ones_like(angle)
        for order in (2, 3, 5):
            phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
            outline += self.roughness / order * 2 * np.cos(order * angle + phase)
        depth = 1 - np.hypot(x, y) / (body[:, None, None] * outline)  # 0 on the outline, 1 in the centre
        body_map = np.clip(depth * 12 + 0.5, 0, 1)
        tone = self.membrane * np.exp(-((depth / 0.12) ** 2))
        tone = np.maximum(tone, 0.45 * self._granules(x, y, body, rng))
        return body_map, np.maximum(tone, self._nucleus(x, y, body, rng))

    def _granules(self, x: Floats, y: Floats, body: Floats, rng: np.random.Generator) -> Floats:
        field = np.zeros_like(x)
        for _ in range(self.granules):
            angle, radius = rng.uniform(0, 2 * np.pi, len(body)), body * np.sqrt(rng.random(len(body)))
            _stamp(field, x, y, radius * np.cos(angle), radius * np.sin(angle), np.full(len(body), self.grain))
        return field

    def _nucleus(self, x: Floats, y: Floats, body: Floats, rng: np.random.Generator) -> Floats:
        field = np.zeros_like(x)
        start, radius = rng.uniform(0, 2 * np.pi, len(body)), self.nucleus * body
        for lobe in range(self.lobes):
            # Lobes lie on an arc, as in granulocytes, not on a full circle.
            angle = start + lobe * 4.2 / max(self.lobes, 2) + rng.normal(0, 0.15, len(body))
            reach = radius * self.spread * (self.lobes > 1)
            lobe_radius = radius / np.sqrt(self.lobes) ** 0.9 * rng.uniform(0.85, 1.15, len(body))
            _stamp(field, x, y, reach * np.cos(angle), reach * np.sin(angle), lobe_radius)
        return field


def _stamp(field: Floats, x: Floats, y: Floats, at_x: Floats, at_y: Floats, radius: Floats) -> None:
    """Draw one soft disc into each image of ``field``, in place."""
    squared = (x - at_x[:, None, None]) ** 2 + (y - at_y[:, None, None]) ** 2
    disc = np.clip((1 - squared / radius[:, None, None] ** 2) * 3 + 0.5, 0, 1)
    np.maximum(field, disc, out=field)
