"""The protocol of a task, and the registry of them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ComponentSpec, ConfigError, NoOptions, Options, Registry
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.methods.initialiser import Initialiser

Head = tuple[nn.Module, dict[str, nn.Parameter]]
"""Features to outputs, and what of it is trained and exchanged, by canonical key."""

_BATCH = 128


@dataclass(frozen=True)
class Evaluation:
    """Aggregates over one split of one site: nothing per sample.

    Attributes:
        samples: rows that were scored.
        loss: their mean; ``nan`` without any.
        metrics: by name; empty without samples.
        counts: whole numbers that may be added up over sites; what they count, the task knows.
    """

    samples: int
    loss: float
    metrics: dict[str, float]
    counts: tuple[int, ...]


class Predictor(Protocol):
    """What a task trains and evaluates with: a model at one site, however its features are come by."""

    @property
    def model(self) -> nn.Module:
        """The learner, for a task that needs more of it than its head."""
        ...

    def outputs(self, split: Split, rows: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
        """The head's outputs for ``rows`` of ``split``, int64 [B] -> [B, ...].

        Args:
            texts: int64 [B]; the image of ``rows[i]`` is read with the text of row ``texts[i]`` in place of its own.
        """
        ...


class Task(ABC):
    """Head, loss and metrics. It knows neither methods nor the federation.

    Args:
        classes: names of the outputs, in their order; none where the task has none, or they are not known yet.
        options: its own.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """What it is, in one line."""
    metrics: ClassVar[tuple[str, ...]]
    """All that it reports, in the order of tables; ``nan`` where one is undefined on the data at hand."""
    primary: ClassVar[str]
    """The one that tables show, that learning rates are chosen by, and that gains are of."""
    secondary: ClassVar[tuple[str, ...]] = ()
    """Metrics that a study shows besides."""
    heading: ClassVar[str]
    """The primary metric at the head of a narrow column."""
    unit: ClassVar[str] = "images"
    """What its samples are."""
    usage: ClassVar[str] = """\
# uint8 images [B, 3, S, S], one question (or text) for each
text = learner.backbone.tokenizer.encode(["is there a fracture?"], learner.backbone.text_length)
logits = learner(images, text)  # [B, C]"""
    """Lines of code that ask a loaded adapter of a backbone that reads texts."""
    size_matters: ClassVar[bool] = False
    """True where more samples are harder, so that scores on one site's and on all sites' samples do not compare."""
    reads_text: ClassVar[bool] = False
    """True where it needs a backbone that reads texts, and data that has them."""
    per_record: ClassVar[bool] = True
    """True where the loss of a batch is the mean of losses that depend on one row each, as DP-SGD needs it."""
    classes_from: ClassVar[Literal["data", "agreement", "nothing"]] = "data"
    """Who names the outputs: each site's data, the federation before sites join, or there are no names."""
    replaceable_head: ClassVar[bool] = False
    """True where a method may bring a head of its own in place of the task's."""
    claimed: ClassVar[tuple[str, ...]] = ()
    """Metrics that counts do not give: a site's word is taken for them, within 0 and 1."""
    agreement_options: ClassVar[tuple[str, ...]] = ()
    """Options that say how a run comes by its classes. Once these are known they mean nothing."""

    def __init__(self, classes: Sequence[str] = (), options: Options | None = None) -> None:
        self.classes = tuple(classes)
        self.options = options or NoOptions()

    @property
    def agrees(self) -> bool:
        """Whether the federation agrees on the classes before its sites join."""
        return self.classes_from == "agreement"

    @property
    def least(self) -> int:
        """How often a class must occur at a site for the site to name it, where the federation agrees on them."""
        return 1

    def given_classes(self) -> tuple[str, ...] | None:
        """Classes that its own options name, where the federation would agree on them; None where they name none.

        Raises:
            ConfigError: what they name cannot be read.
        """
        return None

    @property
    def spec(self) -> ComponentSpec:
        """What it takes to make this task again, its classes being known: the options that are not as by default."""
        hidden = set(self.agreement_options)
        return ComponentSpec(self.name, self.options.model_dump(exclude_defaults=True, exclude=hidden))

    def over(self, classes: Sequence[str]) -> Self:
        """The same task with these outputs; itself where outputs have no names."""
        return self if self.classes_from == "nothing" else type(self)(classes, self.options)

    def of_data(self, classes: Sequence[str]) -> Self:
        """The task at a site whose data has ``classes``: with these outputs, where it is the data that names them."""
        return self.over(classes) if self.classes_from == "data" else self

    @abstractmethod
    def make_head(self, backbone: Backbone, init: Initialiser) -> Head:
        """From features [B, d] to outputs; an ``nn.Identity`` and nothing where there is none."""

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a backbone that the task can do nothing with. Raises ConfigError."""
        if self.reads_text and not backbone.text_length:
            raise ConfigError(
                f"task='{self.name}' reads a text beside each image, and backbone '{backbone.record.name}' (a "
                f"{backbone.record.architecture.family}) reads images only. Choose a backbone that reads texts, such "
                "as meter(...)."
            )

    def check_table(self, table: ImageTable, source: str) -> None:
        """Refuse data of another task.

        Args:
            table: of the source.
            source: its name.

        Raises:
            ConfigError: it lacks what the task needs, or has what the task would ignore.
        """
        if self.reads_text and table.texts is None:
            raise ConfigError(
                f"Data source '{source}' has no questions or captions, which task='{self.name}' needs. Choose another "
                "source or task."
            )

    def check(self, split: Split) -> None:
        """Refuse a site's training data that nothing can be learnt from. Raises DataError."""
        if self.reads_text and split.text is None:
            raise DataError(f"Task '{self.name}' needs texts, and the site's data has none.")

    def align(self, split: Split, classes: Sequence[str]) -> Split:
        """``split``, of data with ``classes``, as this task counts.

        Raises:
            DataError: it has classes that are not among the task's.
        """
        return split

    def prior(self, split: Split, strength: float) -> torch.Tensor | None:
        """What the loss must know of a site's label skew; None for a task that corrects none."""
        return None

    @abstractmethod
    def loss(
        self,
        predictor: Predictor,
        split: Split,
        rows: torch.Tensor,
        *,
        prior: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Mean loss of one batch.

        Args:
            predictor: in training mode.
            split: training data.
            rows: of the batch, int64 [B].
            prior: what :meth:`prior` gave, on the model's device.
            generator: on the CPU, for whatever a task draws.
        """

    @abstractmethod
    def evaluate(self, predictor: Predictor, split: Split) -> Evaluation:
        """Score a split; an empty one has the loss ``nan`` and no metrics."""

    @abstractmethod
    def metrics_of_counts(self, counts: Sequence[int]) -> dict[str, float]:
        """What counts say, of one site or added up over several; ``nan`` where nothing was counted."""

    @abstractmethod
    def vet(self, counts: Sequence[int], samples: int) -> None:
        """Raises ValueError where ``counts`` cannot be those of so many samples."""

    @abstractmethod
    def ideal_counts(self, labels: Sequence[int]) -> list[int]:
        """Counts of a model that is always right, which have as many digits as counts can have.

        Args:
            labels: samples by label of the data.
        """

    @abstractmethod
    def show_counts(self, counts: Sequence[int]) -> dict[str, Any]:
        """Counts with names, for a reader."""


class RowTask(Task):
    """A task whose outputs are one row of numbers for each row of a split, whatever the others are."""

    @abstractmethod
    def loss_of(
        self, outputs: torch.Tensor, split: Split, rows: torch.Tensor, prior: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean loss of outputs [B, C] for ``rows``."""

    @abstractmethod
    def score(self, outputs: torch.Tensor, split: Split) -> Evaluation:
        """Loss and metrics of outputs [N, C] for all of ``split``; they lie on the CPU."""

    def loss(
        self,
        predictor: Predictor,
        split: Split,
        rows: torch.Tensor,
        *,
        prior: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        return self.loss_of(predictor.outputs(split, rows), split, rows, prior)

    def evaluate(self, predictor: Predictor, split: Split) -> Evaluation:
        return self.score(self.all_outputs(predictor, split), split)

    def all_outputs(self, predictor: Predictor, split: Split) -> torch.Tensor:
        """Outputs [N, C] for all of ``split``, on the CPU."""
        chunks = torch.arange(len(split)).split(_BATCH) if len(split) else ()
        outputs = [predictor.outputs(split, rows).cpu() for rows in chunks]
        return torch.cat(outputs) if outputs else torch.zeros(0, len(self.classes))


TASKS: Registry[Task] = Registry("task")


def register_task(name: str, options: type[Options] = NoOptions) -> Callable[[type[Task]], type[Task]]:
    """Class decorator: ``@register_task("vqa", VqaOptions)``."""

    def decorate(task: type[Task]) -> type[Task]:
        task.name = name
        TASKS.register(name, options)(lambda chosen: task((), chosen))
        return task

    return decorate


def build_task(spec: ComponentSpec | str, classes: Sequence[str] = ()) -> Task:
    """The task over ``classes``. Raises ConfigError for an unknown task or option."""
    return TASKS.build(spec).over(classes)
