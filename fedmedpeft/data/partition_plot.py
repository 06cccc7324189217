"""A picture of a partition: samples (images, questions or texts) per site, stacked by class."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedmedpeft.data.partition_manifest import PartitionManifest, split_index


def plot_partition(manifest: PartitionManifest, path: Path | str, split: str | None = None) -> None:
    """Write a PNG of class by site, for one ``split`` or (None) for all samples.

    Raises:
        DataError: an unknown split.
    """
    counts = manifest.counts()
    bars = counts.sum(axis=1) if split is None else counts[:, split_index(split)]
    places = range(len(manifest.sites))
    figure = Figure(figsize=(max(5.0, 1.5 + 0.7 * len(manifest.sites)), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    bottom = bars[:, 0] * 0
    palette = colormaps["tab20" if len(manifest.classes) > 10 else "tab10"]
    for label, name in enumerate(manifest.classes):
        axes.bar(places, bars[:, label], bottom=bottom, label=name, color=palette(label % palette.N))
        bottom = bottom + bars[:, label]
    axes.set_xticks(places, manifest.sites, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_ylabel("samples" if split is None else f"{split} samples")
    axes.set_title(f"{manifest.partitioner}, seed {manifest.seed}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="class", fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
