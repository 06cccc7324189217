"""A frozen backbone and the places in it where a method may insert modules or unfreeze parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import nn

from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.text import Text

if TYPE_CHECKING:
    from fedmedpeft.backbones.transformer import Transformer

Part = Literal["vision", "text", "fusion", "decoder"]
"""Which network of a backbone a place is in. A backbone of one network is ``vision``."""

Role = Literal[
    "embed", "patch", "word_embed", "norm_pre",
    "block", "attention", "norm1", "cross", "norm_cross", "q", "k", "v", "o", "ffn", "norm2", "ffn_in", "ffn_out",
    "conv", "batchnorm",
    "transform", "type_embed", "pooler", "lm_head",
    "readout", "norm", "projection",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)
"""What a place does, whatever the architecture calls it.

``embed`` turns pixels into tokens (or, in a convolutional network, into the first feature map); ``patch`` is the patch
projection inside it; ``norm_pre`` follows it (CLIP). A ``block`` of a transformer consists of two sub-layers with
their residual, ``attention`` (norm1, then q k v o) and ``ffn`` (norm2, then ffn_in, ffn_out); one of a ResNet of
``conv`` and ``batchnorm``. ``readout`` makes the feature: in a transformer ``norm`` of the class token, then a
``projection`` where there is one.

A text tower begins with ``word_embed`` and its ``norm_pre``. Where a block attends to another network's tokens, that
sub-layer is ``cross`` with its ``norm_cross``, and its projections are q, k, v and o as well. Between towers and fusion
stand ``transform`` and ``type_embed``, behind it a ``pooler`` for each modality. A decoder ends with ``lm_head``, from
states to words, and the ``norm`` in it.
"""


class MissingPlace(LookupError):  # noqa: N818 - it names what is wrong
    """A method asks for a place that this kind of backbone does not have.

    Args:
        place: what is asked for.
        remedy: where there is one, as a sentence.
    """

    def __init__(self, place: str, remedy: str = "Choose another method or backbone.") -> None:
        super().__init__(place)
        self.place, self.remedy = place, remedy


class NotMergeable(TypeError):  # noqa: N818 - it names what is wrong
    """A module computes something that no plain weight can express."""


class Inserted(nn.Module):
    """Base of every module that a method inserts; what it wraps is its ``base``.

    It follows train/eval mode; the module it wraps stays in evaluation mode: a frozen backbone neither drops units nor
    moves statistics. A module that owns parameters itself has no child modules, and one with child modules owns none:
    that is what makes per-record gradients possible without special cases.
    """

    base: nn.Module
    kept: ClassVar[tuple[str, ...]] = ()
    """Names of its buffers that training moves. They are statistics of a site's images: they stay there."""
    hides: tuple[str, ...] = ()
    """Names of parameters of ``base`` that no gradient reaches through it."""

    def set_mode(self, training: bool) -> None:
        """Follow train/eval mode, without what is wrapped."""
        self.training = training

    def merged(self, base: nn.Module) -> nn.Module:
        """The plain module that computes what this one computes around ``base``, for good.

        Args:
            base: what this module wraps, already merged; it is not changed.

        Raises:
            NotMergeable: there is none.
        """
        raise NotMergeable(type(self).__name__)


@dataclass(frozen=True)
class Place:
    """One spot of a backbone.

    Args:
        role: what it does.
        key: canonical name, such as ``blocks.3.q``.
        owner: the module that has it as ``attribute``.
        attribute: its name there.
        original: the frozen module found there, whatever has been inserted since.
        channel_dim: dimension of its output that holds the channels.
        width: d of the tokens [B, T, d] that the network around it works on; 0 where it works on feature maps.
        part: the network that it is in.
    """

    role: Role
    key: str
    owner: nn.Module
    attribute: str
    original: nn.Module
    channel_dim: int = -1
    width: int = 0
    part: Part = "vision"

    @property
    def current(self) -> nn.Module:
        """What is there now."""
        module: nn.Module = getattr(self.owner, self.attribute)
        return module

    def wrap(self, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
        """Put ``make(current module)`` in this place and return it."""
        module = make(self.current)
        setattr(self.owner, self.attribute, module)
        return module


class Backbone(nn.Module, ABC):
    """Images to one feature vector each; every parameter frozen.

    Args:
        record: architecture and preprocessing.
        fingerprint: hash of architecture and weights; empty for a skeleton without weights.

    Attributes:
        tokenizer: of the text tower, where there is one and the checkpoint brought it.
    """

    def __init__(self, record: BackboneRecord, fingerprint: str = "") -> None:
        super().__init__()
        self.record = record
        self.fingerprint = fingerprint
        self.tokenizer: Tokenizer | None = None
        self._places: tuple[Place, ...] = ()
        self._within: frozenset[Part] | None = None
        self._original_parameters: dict[str, nn.Parameter] = {}
        self._published_names: dict[str, str] = {}

    @property
    def feature_size(self) -> int:
        """Width d of the feature."""
        return self.record.architecture.feature_size

    @property
    def parts(self) -> tuple[Part, ...]:
        """The networks that it consists of."""
        return tuple(dict.fromkeys(place.part for place in self._places))

    @property
    def text_length(self) -> int:
        """Tokens that a text is cut to; 0 where the backbone reads images alone."""
        return 0

    @property
    def image_transformer(self) -> Transformer | None:
        """The transformer that reads the image, for methods that act on its tokens; None where there is none."""
        return None

    @contextmanager
    def within(self, parts: Iterable[Part]) -> Iterator[None]:
        """Until it ends only what lies in ``parts`` is seen by :meth:`places` and :meth:`original_parameters`."""
        before, self._within = self._within, frozenset(parts)
        try:
            yield
        finally:
            self._within = before

    def sees(self, part: Part) -> bool:
        """Whether a method may act in ``part`` now; see :meth:`within`."""
        return self._within is None or part in self._within

    def freeze(self, places: Iterable[Place], expected: Mapping[Role, int], published: nn.Module | None) -> None:
        """Freeze everything and record the places, once, on the untouched network.

        Args:
            places: in a fixed order.
            expected: how often each role must occur.
            published: the same parameters under their published names, to write them out under these; None: under ours.

        Raises:
            ValueError: a role occurs more or less often, or a parameter belongs to no place.
        """
        self._places = tuple(places)
        found = Counter(place.role for place in self._places)
        if found != Counter(expected):
            raise ValueError(f"Backbone '{self.record.name}': places {dict(found)}, expected {dict(expected)}.")
        own = _parameters_by_place(self._places)
        covered = {id(parameter) for parameter in own.values()}
        missing = [name for name, parameter in self.named_parameters() if id(parameter) not in covered]
        if missing:
            raise ValueError(f"Backbone '{self.record.name}': parameters in no place: {', '.join(missing[:5])}.")
        self._original_parameters = own
        names = {id(parameter): name for name, parameter in published.named_parameters()} if published else {}
        self._published_names = {key: names.get(id(parameter), key) for key, parameter in own.items()}
        self.requires_grad_(False)
        self.eval()

    def places(self, *roles: Role, optional: tuple[Role, ...] = ()) -> list[Place]:
        """The places with one of ``roles`` or ``optional``, in the order of the network.

        Raises:
            MissingPlace: this backbone has none with one of ``roles``.
        """
        seen = [place for place in self._places if self.sees(place.part)]
        present = {place.role for place in seen}
        for role in roles:
            if role not in present:
                raise MissingPlace(role)
        return [place for place in seen if place.role in roles or place.role in optional]

    def every_place(self) -> tuple[Place, ...]:
        """All places, whatever :meth:`within` says."""
        return self._places

    def place(self, role: Role) -> Place:
        """The one place with ``role``. Raises MissingPlace where there is none."""
        (place,) = self.places(role)
        return place

    def original_parameters(self, *roles: Role, optional: tuple[Role, ...] = ()) -> dict[str, nn.Parameter]:
        """The backbone's own parameters by canonical name (``blocks.3.q.weight``), whatever has been inserted since.

        All of them, or those in the places with one of ``roles`` or ``optional``; raises as :meth:`places` does.
        """
        every = tuple(place for place in self._places if self.sees(place.part))
        chosen = self.places(*roles, optional=optional) if roles else every
        inside = tuple(f"{place.key}." for place in chosen)
        return {key: parameter for key, parameter in self._original_parameters.items() if key.startswith(inside)}

    def kept(self) -> dict[str, torch.Tensor]:
        """Buffers of inserted modules that training moves and that stay at a site, by canonical name."""
        return {
            f"{place.key}.{name}": module.get_buffer(name) for place, module in self._inserted() for name in module.kept
        }

    def hidden(self) -> set[str]:
        """Own parameters by canonical name that no gradient reaches under what was inserted: training them is idle."""
        return {f"{place.key}.{name}" for place, module in self._inserted() for name in module.hides}

    def _inserted(self) -> Iterator[tuple[Place, Inserted]]:
        """What was inserted, from the outside in at every place."""
        for place in self._places:
            module = place.current
            while isinstance(module, Inserted):
                yield place, module
                module = module.base

    def published_name(self, key: str) -> str:
        """The name that a parameter (``blocks.3.q.weight``) has in published checkpoints of this architecture."""
        return self._published_names[key]

    def train(self, mode: bool = True) -> Backbone:
        """Only inserted modules change mode; the frozen network always computes as in evaluation."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, Inserted):
                module.set_mode(mode)
        return self

    def refuse_texts(self, *texts: Text | None) -> None:
        """Raise ValueError where there is one, which a backbone that reads images alone would pass over."""
        if any(text is not None for text in texts):
            raise ValueError(f"Backbone '{self.record.name}' reads images alone; there is a text.")

    @abstractmethod
    def forward(self, pixels: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S], and what is said of them where the backbone reads it -> feature [B, d]."""


def _parameters_by_place(places: Iterable[Place]) -> dict[str, nn.Parameter]:
    """Parameters by ``<place>.<name>``; where places lie in each other, the innermost has it."""
    found = [(place, name, p) for place in places for name, p in place.original.named_parameters()]
    depth: dict[int, int] = {}
    for _, name, parameter in found:
        depth[id(parameter)] = min(name.count("."), depth.get(id(parameter), name.count(".")))
    return {f"{place.key}.{name}": p for place, name, p in found if name.count(".") == depth[id(p)]}
