"""``fedmedpeft privacy reference`` and ``distance``: what a domain's images are like, how far others are from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch is only loaded where something is computed
    import torch

    from fedmedpeft.backbones import Backbone
    from fedmedpeft.config import RunConfig
    from fedmedpeft.data.site_data import SiteData
    from fedmedpeft.privacy.domain import Verdict

app = typer.Typer(no_args_is_help=True)

_Data = Annotated[str, typer.Option("--data", help="manifest(path=...), medmnist(path=...), folder(path=...), ...")]
_Partition = Annotated[str, typer.Option("--partition", help="natural, iid, ..., file(path=...).")]
_Sites = Annotated[int, typer.Option("--sites", min=0, help="Number of sites; 0: as the data says, or 4.")]
_Backbone = Annotated[str, typer.Option("--backbone", help="embedded, a directory, or a Hugging Face name.")]
_Revision = Annotated[str, typer.Option("--backbone-revision", help="Commit of a Hugging Face repository.")]
_Size = Annotated[int, typer.Option("--image-size", min=0, help="Pixels a side, as in the run; 0: the backbone's own.")]
_Of = Annotated[list[str] | None, typer.Option("--site", help="Only this site; may be given many times.")]
_Threshold = Annotated[float, typer.Option(min=0, help="Largest distance within the domain; 0: as the data says.")]


@app.command()
def reference(
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    data: _Data,
    partition: _Partition = "auto",
    sites: _Sites = 0,
    site: _Of = None,
    backbone: _Backbone = "embedded",
    backbone_revision: _Revision = "",
    image_size: _Size = 0,
    limit: Annotated[int, typer.Option(min=2, help="Images of each site at most.")] = 4096,
    threshold: _Threshold = 0.0,
    name: Annotated[str, typer.Option(help="What the images are, in words; else the source's name.")] = "",
) -> None:
    """Write the statistics of a domain's training images, for privacy='auto(reference=FILE)'.

    Example: fedmedpeft privacy reference --data 'manifest(path=public.csv)' --site lab-a --out lab-a.json

    The file has a mean and a standard deviation for each dimension of the frozen features. These are aggregates,
    without differential privacy: make it of public images, or of images whose mean may be known.
    """
    import torch

    from fedmedpeft.privacy import domain
    from fedmedpeft.privacy.domain_distance import make_reference

    network, every = _opened(_config(data, partition, sites, backbone, backbone_revision, image_size), site)
    features: dict[str, torch.Tensor] = {}
    groups: list[torch.Tensor] = []
    for one in every:
        features[one.site] = domain.frozen_features(network, one.train, limit)
        # A patient's number means nothing at another site.
        known = int(groups[-1].max()) + 1 if groups else 0
        groups.append(domain.image_groups(one.train, limit) + known)
    made = make_reference(
        torch.cat(list(features.values())),
        torch.cat(groups),
        fingerprint=network.fingerprint,
        source=name or data.partition("(")[0],
        threshold=threshold,
    )
    made.save(out)
    typer.echo(f"Written: {out.absolute()}\n{made.samples} images of {made.source}, threshold {made.threshold:.3f}.")
    _warn_of_outside({which: domain.judge(x, made) for which, x in features.items()})


def _warn_of_outside(verdicts: Mapping[str, Verdict]) -> None:
    """Where sites that a reference was made of are not within it."""
    outside = [f"{which} ({v.distance:.3f})" for which, v in verdicts.items() if v.foreign and v.distance]
    if outside:
        typer.echo(
            f"Of the sites that it was made of, these are not within it themselves: {', '.join(outside)}. Make one of "
            "each (--site), or give a larger --threshold: sites as different as these then count as within the domain."
        )


@app.command()
def distance(
    data: _Data,
    file: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="A reference; else that of the backbone.")
    ] = None,
    partition: _Partition = "auto",
    sites: _Sites = 0,
    site: _Of = None,
    backbone: _Backbone = "embedded",
    backbone_revision: _Revision = "",
    image_size: _Size = 0,
    threshold: _Threshold = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How far each site's training images are from a reference, and whether privacy='auto(...)' would be on there.

    Example: fedmedpeft privacy distance --reference lab-a.json --data 'manifest(path=labels.csv)'

    Nothing leaves this machine.
    """
    import json
    from dataclasses import asdict

    from fedmedpeft.console_table import show_table
    from fedmedpeft.privacy import domain

    given = domain.FeatureReference.load(file.expanduser()) if file else None
    config = _config(data, partition, sites, backbone, backbone_revision, image_size)
    network, every = _opened(config, site)
    used = given or domain.shipped_reference(network)
    features = {one.site: domain.frozen_features(network, one.train) for one in every}
    verdicts = {one: domain.judge(x, used, threshold, network.fingerprint) for one, x in features.items()}
    if as_json:
        counted = {one: {"images": len(features[one]), **asdict(verdict)} for one, verdict in verdicts.items()}
        limit = (threshold or used.threshold) if used else None
        typer.echo(json.dumps({"threshold": limit, "sites": counted}, indent=2))
        return
    rows = [(one, str(len(features[one])), "on" if v.foreign else "off", v.why) for one, v in verdicts.items()]
    show_table(
        f"Distance from {used.source if used else 'no reference'}",
        ("site", "images", "privacy", "why"),
        rows,
        numbers_from=4,
    )


def _config(data: str, partition: str, sites: int, backbone: str, revision: str, image_size: int) -> RunConfig:
    from fedmedpeft.config import RunConfig

    values = {"data": data, "partition": partition, "sites": sites, "min-sites": 1, "min-train-per-site": 1}
    network = {"backbone": backbone, "backbone-revision": revision, "image-size": image_size}
    return RunConfig.from_mapping(values | network)


def _opened(config: RunConfig, wanted: list[str] | None) -> tuple[Backbone, Iterator[SiteData]]:
    """The backbone, and the sites one after the other. Raises ConfigError where one that is wanted does not exist."""
    from fedmedpeft.components import ConfigError, suggest
    from fedmedpeft.data import build_source
    from fedmedpeft.data.run_partition import partition_for
    from fedmedpeft.data.site_data import load_site
    from fedmedpeft.learner import load_configured

    source = build_source(config.data)
    manifest = partition_for(config, source, config.sites)
    for name in wanted or ():
        if name not in manifest.sites:
            near, known = suggest(name, manifest.sites), ", ".join(manifest.sites)
            raise ConfigError(f"--site '{name}': the data has no such site.{near} It has: {known}.")
    network = load_configured(config)
    said = network.record.preprocessing
    return network, (
        load_site(source, manifest, name, image_size=said.image_size, interpolation=said.interpolation)
        for name in wanted or manifest.sites
    )
