"""The run configuration: one typed, strict place for everything that can be set.

Flower passes a flat mapping with dashes in its keys, of numbers, booleans and strings. It is read here once, before any
work starts. The same values are the defaults in ``pyproject.toml``; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedmedpeft.components import (
    ComponentSpec,
    ConfigError,
    Value,
    explain,
    parse_composition,
    parse_spec,
    shaped,
    suggest,
)
from fedmedpeft.section import Section

Mode = Literal["federated", "local-only", "pooled"]
Device = Annotated[str, shaped(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N")]

OFF = "off"
_PRIVATE_DEFAULTS: Mapping[str, Mapping[str, Value]] = {"lora": {"factors": "ffa"}}
"""Options of methods that a run with privacy sets where they are left out: noise on two factors of a product
multiplies (Sun et al., ICLR 2024). Here, so that server and sites read one method out of one configuration."""


class RunConfig(Section):
    """One run. Field names have underscores in Python and dashes everywhere a person writes them."""

    mode: Mode = Field(
        "federated",
        description="federated, or only a reference: local-only (each site alone), pooled (all data in one place)",
    )
    references: Literal["none", "local-only", "pooled", "all"] = Field(
        "local-only", description="references trained beside a federated run, at the same number of local steps"
    )

    backbone: str = Field(
        "embedded", description="'embedded', a directory, a Hugging Face name, or meter(vision=..., text=...) of such"
    )
    backbone_revision: str = Field("", description="commit of a Hugging Face repository")
    backbone_fingerprint: str = Field("", description="expected fingerprint; empty: the one that most sites have")
    image_size: int = Field(0, ge=0, description="pixels a side; 0: the backbone's own")

    method: str = Field(
        "lora+layernorm", description="PEFT method, with options, composed by '+': lora(rank=8)+vpt-deep"
    )
    personal: str = Field(
        "auto",
        description="what stays at each site: none, or head and methods of the composition, comma-separated; "
        "auto: layernorm where it is composed with another method",
    )
    start_from: str = Field(
        "",
        description="directory of an adapter that every site starts from: an earlier run's, or a Hugging Face LoRA",
    )

    task: str = Field("classification", description="what is learnt: classification, vqa, retrieval or generation")
    knowledge: str = Field(
        "",
        description="medical knowledge beside each text, for a backbone that reads texts: open(path=...); empty: none",
    )

    data: str = Field(
        "phantoms(scanners=4, images=640)",
        description="data source: phantoms, manifest(path=...), folder(path=...), medmnist(path=...)",
    )
    partition: str = Field(
        "auto",
        description="natural, iid, dirichlet(alpha=0.3), pathological, quantity, feature-shift, or file(path=...); "
        "auto: natural where the data has one site per node, else dirichlet(alpha=0.5)",
    )
    partition_seed: int = Field(0, ge=0, description="seed of the partition and of the train / val / test split")
    sites: int = Field(0, ge=0, description="number of sites; 0: as many as the federation has nodes")
    val_fraction: float = Field(0.15, ge=0, lt=1, description="share of a site's training images kept for validation")
    test_fraction: float = Field(
        0.25, ge=0, lt=1, description="share of a site's images for its test split, where the source has none"
    )
    min_train_per_site: int = Field(10, ge=1, description="fewest training images a site may have")

    rounds: int = Field(10, ge=1, description="federated rounds")
    local_steps: int = Field(10, ge=1, description="optimiser steps per site and round")
    batch_size: int = Field(16, ge=1, description="images per step (fewer where a site has fewer)")
    learning_rate: float = Field(
        0.0, ge=0, description="AdamW step size of the method; 0: each method's own recommendation"
    )
    head_learning_rate: float = Field(5e-3, gt=0, description="AdamW step size of the head")
    learning_rate_scale: float = Field(
        1.0, gt=0, description="multiplies every step size, of methods and head; what `compare` searches over"
    )
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="share of all steps over which the step size rises")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="step size over the whole run, after warm-up")
    gradient_clip: float = Field(1.0, ge=0, description="largest gradient norm of a step; 0: no clipping")
    logit_adjustment: float = Field(
        1.0, ge=0, description="strength of the correction for each site's label skew; 0: none"
    )
    keep_momentum: bool = Field(True, description="sites keep their optimiser's state from round to round")

    personalise_steps: int = Field(
        20, ge=0, description="steps each site takes alone after the last round; the result stays there; 0: none"
    )
    personalise_rate: float = Field(0.3, gt=0, description="step sizes of those steps, relative to the run's")

    strategy: str = Field(
        "fedavg", description="fedavg, fedprox(mu=0.01), fedadam, fedyogi, fedadagrad, median, trimmed-mean, krum"
    )
    weighting: Literal["samples", "sqrt", "uniform"] = Field(
        "samples", description="a site's weight: its training images, their square root, or 1"
    )
    sampling_fraction: float = Field(1.0, gt=0, le=1, description="share of the sites asked in each round")
    min_sites: int = Field(
        2, ge=1, description="fewest usable answers in a round; with fewer the state stays as it was"
    )
    round_timeout: float = Field(3600.0, gt=0, description="seconds to wait for the sites of a round")
    max_norm: float = Field(1e6, gt=0, description="largest Euclidean norm of a PEFT state that either side accepts")
    outlier_spread: float = Field(
        3.0,
        ge=0,
        description="a site whose update is longer than usual by more than so many of the round's robust standard "
        "deviations sits the round out (of 4 updates or more); 0: updates of any length count",
    )

    privacy: str = Field(
        OFF,
        description="differential privacy of what a site learns from: off, required(epsilon=8), auto(epsilon=8) (only "
        "at sites out of the backbone's domain), or file(path=...) with a setting for each site",
    )
    out_of_domain: str = Field(
        "", description="sites whose images are unlike those of the backbone, comma-separated, for privacy='auto(...)'"
    )
    client_privacy: str = Field(
        OFF,
        description="differential privacy of which sites took part with what: off, fixed(clip=1.0, noise=1.0) or "
        "adaptive(...)",
    )
    inbound_factor: float = Field(
        5.0,
        ge=0,
        description="how much further than its own last update a site lets the server's state move in a round; "
        "0: any distance",
    )

    seed: int = Field(
        0, ge=0, description="seed of everything random, except the partition, and the noise and sampling of privacy"
    )
    device: Device = Field("auto", description="auto, cpu, cuda or cuda:N")
    runs_dir: str = Field("runs", description="where runs are written; relative to the directory the run starts in")
    run_name: str = Field(
        "", description="directory of this run below runs-dir; empty: made from method, data and time"
    )
    resume: str = Field("", description="name of an interrupted run below runs-dir to go on with; empty: a new run")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Read dashed keys, strictly.

        Raises:
            ConfigError: an unknown key, a wrong type or range, or values that do not go together.
        """
        known = {str(field.alias) for field in cls.model_fields.values()}
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"Unknown configuration key '{key}'.{suggest(key, known)} `fedmedpeft config` lists all keys."
                )
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"Configuration: {explain(error)}.") from None

    def to_mapping(self) -> dict[str, Value]:
        """Dashed keys, as in a run's ``config.toml`` and in ``pyproject.toml``."""
        return self.model_dump(by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _private_methods(cls, values: Any) -> Any:
        """Write out what privacy changes in the method, so that every file of the run says it."""
        if not isinstance(values, dict):
            return values
        privacy = [values.get(key, OFF) for key in ("privacy", "client-privacy", "client_privacy")]
        method = values.get("method", cls.model_fields["method"].default)
        if not all(isinstance(text, str) for text in (*privacy, method)) or set(privacy) == {OFF}:
            return values
        composition = [
            ComponentSpec(spec.name, {**_PRIVATE_DEFAULTS.get(spec.name, {}), **spec.options})
            for spec in parse_composition(method)
        ]
        return values | {"method": "+".join(str(spec) for spec in composition)}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        methods = {spec.name for spec in parse_composition(self.method)}
        for part in self.personal_parts:
            if part not in methods | {"head"}:
                raise ValueError(f"personal='{part}' is neither 'head' nor a method of '{self.method}'")
        if (
            self.mode == "federated"
            and not methods - set(self.personal_parts) - {"head"}
            and "head" in self.personal_parts
        ):
            raise ValueError(f"personal='{self.personal}' leaves nothing to exchange with method='{self.method}'")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val-fraction={self.val_fraction} and test-fraction={self.test_fraction} leave nothing to train on"
            )
        for text in (
            self.strategy,
            self.partition,
            self.data,
            self.task,
            self.privacy,
            self.client_privacy,
            *([self.knowledge] if self.knowledge else []),
        ):
            parse_spec(text)
        if self.sites and self.mode == "federated" and self.min_sites > self.sites:
            raise ValueError(f"min-sites={self.min_sites} is more than sites={self.sites}; lower it or add sites")
        for key, name in (("run-name", self.run_name), ("resume", self.resume)):
            if name and (name == ".." or Path(name).name != name):
                raise ValueError(f"{key}='{name}' must be a plain name; set the directory with runs-dir")
        return self

    @property
    def personal_parts(self) -> tuple[str, ...]:
        """Owners whose tensors stay at the sites. Normalisation kept per site: FedBN, Li et al., ICLR 2021."""
        if self.personal == "auto":
            methods = {spec.name for spec in parse_composition(self.method)}
            return ("layernorm",) if "layernorm" in methods and methods - {"layernorm", "head"} else ()
        if self.personal == "none":
            return ()
        return tuple(part.strip() for part in self.personal.split(",") if part.strip())

    @property
    def total_steps(self) -> int:
        """Optimiser steps of one site over the whole run."""
        return self.rounds * self.local_steps
