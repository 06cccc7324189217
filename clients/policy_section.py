"""The policy in ``site.yaml``: what a run may ask of a site, and what may leave it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from fedmedpeft.components import suggest
from fedmedpeft.section import Names, Section, as_tuple


class PolicySection(Section):
    """What a run may ask of this site, and what may leave it. Whatever is not allowed here is refused."""

    approved_runs: Names = Field(
        (),
        description="hashes of run configurations (`fedmedpeft site hash`); only these are trained. Empty: any run "
        "that keeps to the rules below",
    )
    methods: Names = Field((), description="PEFT methods that may be trained; empty: all but `full`")
    tasks: Names = Field(("classification",), description="tasks that may be trained")
    backbones: Names = Field((), description="fingerprints that are accepted; empty: of any backbone named above")
    most_rounds: int = Field(200, ge=1, description="rounds of a run")
    most_local_steps: int = Field(1000, ge=1, description="optimiser steps of a round")
    most_learning_rate: float = Field(
        0.1,
        gt=0,
        description="step size of a run, scale included; a site lets the server's state move as far as such steps go",
    )
    most_runs: int = Field(
        100,
        ge=0,
        description="runs that keep something below state/runs; more are refused until a person has deleted "
        "old ones. 0: no limit",
    )
    partition_seed: int = Field(
        0,
        ge=0,
        description="partition-seed of every run. With another one other rows would be tested, and scores of "
        "many divisions give away single patients",
    )
    val_fraction: float = Field(0.15, ge=0, lt=1, description="val-fraction of every run, for the same reason")
    test_fraction: float = Field(0.25, ge=0, lt=1, description="test-fraction of every run, for the same reason")
    most_bytes: int = Field(
        500_000_000, ge=1, description="bytes of one message that leaves; one that comes in may have 4 MB more"
    )
    most_bytes_of_run: int = Field(0, ge=0, description="bytes of all messages of a run that leave; 0: no limit")
    most_norm: float = Field(1e6, gt=0, description="Euclidean norm of a state that comes in or leaves")
    most_update_norm: float = Field(0.0, ge=0, description="norm of what training changed in a round; 0: no limit")
    most_inbound_factor: float = Field(
        5.0, gt=0, description="largest inbound-factor of a run: how far the server may move the state in a round"
    )
    privacy_required: bool = Field(False, description="train with differential privacy or not at all")
    references: bool = Field(False, description="train references (this site alone) where a run asks for it")
    metrics: Literal["all", "none"] | Names = Field(
        "all", description="validation and test metrics that may leave: all, none, or a list of names"
    )
    counts: bool = Field(True, description="whether counts (a confusion matrix) may leave beside them")
    training_loss: bool = Field(True, description="whether the mean training loss may leave")
    smallest_count: int = Field(
        10,
        ge=0,
        description="numbers of samples below this are not told: scores of a split with fewer, answers that are rarer, "
        "reasons for leaving images out that are fewer; nor is an update of so few images a round",
    )
    smallest_cell: int = Field(
        0, ge=0, description="scores of a split whose counts have a number between 0 and this stay here; 0: none do"
    )
    most_batch_size: int = Field(1024, ge=1, description="images of an optimiser step")
    most_image_size: int = Field(1024, ge=1, description="pixels a side")
    hours: str = Field(
        "",
        pattern=r"^(\d\d:\d\d-\d\d:\d\d)?$",
        description="local time in which to train, e.g. 20:00-06:00; empty: always",
    )
    days: Names = Field((), description="days on which to train, of mon tue wed thu fri sat sun; empty: all")
    dry_run: bool = Field(False, description="train, write what would be sent below state/dry-run, and send nothing")

    @field_validator("metrics", mode="before")
    @classmethod
    def _metric_names(cls, value: Any) -> Any:
        return as_tuple(value)

    @field_validator("hours")
    @classmethod
    def _clock(cls, hours: str) -> str:
        for clock in hours.split("-") if hours else ():
            hour, minute = clock.split(":")
            if int(hour) > 23 or int(minute) > 59:
                raise ValueError(f"'{clock}' is no time of day")
        return hours

    @field_validator("days")
    @classmethod
    def _week(cls, days: tuple[str, ...]) -> tuple[str, ...]:
        week = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        for day in days:
            if day not in week:
                raise ValueError(f"'{day}' is no day.{suggest(day, week)}")
        return days
