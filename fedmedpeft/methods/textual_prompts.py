"""Textual prompts: learned words before the class names, read by CLIP's frozen text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import normalize

from fedmedpeft.backbones import Backbone, Clip, MissingPlace, TextTower, Tokenizer
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method

Position = Literal["end", "middle", "front"]
_CONTEXT = -1


class TextualOptions(MethodOptions):
    """Options of ``textual-prompts``."""

    context: int = Field(4, ge=1, description="learned context vectors M")
    class_token_position: Position = Field("end", description="where the class name stands among them")
    per_class: bool = Field(False, description="context vectors of its own for every class")
    start: str = Field("", description="phrase of M tokens to start from, such as 'a photo of a'; empty: N(0, 0.02^2)")


@dataclass(frozen=True)
class Template:
    """The texts of C classes as tokens [C, T], with places for the context.

    Args:
        tokens: start, context and name, full stop, end, padding; anything where the context goes.
        slots: positions [C, M] of the context.
        ends: positions [C] of the end tokens.
    """

    tokens: torch.Tensor
    slots: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], padding: int) -> Template:
        """From lists of tokens in which ``_CONTEXT`` holds the context's places."""
        longest = max(len(row) for row in rows)
        padded = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
        slots = torch.tensor([[i for i, token in enumerate(row) if token == _CONTEXT] for row in rows])
        return cls(padded.clamp(min=0), slots, torch.tensor([len(row) - 1 for row in rows]))

    @classmethod
    def empty(cls, classes: int, context: int) -> Template:
        """Without words, for a skeleton."""
        return cls.of([[_CONTEXT] * context] * classes, 0)


class TextualHead(nn.Module):
    """Image features [B, p] -> logits [B, C]: cosine to each class's text, times CLIP's scale.

    Args:
        tower: frozen.
        context: [M, d_t], or [C, M, d_t] with ``per_class``.
        template: the classes' texts.
    """

    tokens: torch.Tensor
    slots: torch.Tensor
    ends: torch.Tensor

    def __init__(self, tower: TextTower, context: nn.Parameter, template: Template) -> None:
        super().__init__()
        self.tower, self.context = tower, context
        for name in ("tokens", "slots", "ends"):
            self.register_buffer(name, getattr(template, name).to(context.device), persistent=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        words = self.tower.token_embedding(self.tokens)
        slots = self.slots[..., None].expand(-1, -1, words.shape[-1])
        texts = self.tower(words.scatter(1, slots, self.context.expand_as(slots)), self.ends)
        logits: torch.Tensor = self.tower.logit_scale.exp() * normalize(features, dim=-1) @ texts.T
        return logits


@register_method("textual-prompts", TextualOptions)
class TextualPrompts(Method):
    """logit_c = s cos(image, text(v_1 ... v_M, name of c, ".")): v are trained and exchanged, and nothing else.

    It is the head: there is no linear one. The image features stay the frozen ones. Class names come from the data,
    with spaces for underscores. Averaging is that of the vectors, as for visual prompts. All classes pass through the
    text tower once per step whatever the batch, so no part of a context's gradient belongs to one record.
    """

    summary = "learned context words before the class names; needs CLIP's text tower (4 vectors, no linear head)"
    source = "Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022 (arXiv 2109.01134)"
    learning_rate = 2e-3
    keeps_features = True
    dp_capable = False
    options: TextualOptions

    def __init__(self, options: TextualOptions) -> None:
        super().__init__(options)
        self.class_bound = options.per_class

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        _text_tower(backbone)
        return {}

    def make_head(
        self, backbone: Backbone, classes: Sequence[str], init: Initialiser
    ) -> tuple[nn.Module, dict[str, nn.Parameter]]:
        tower, options, key = _text_tower(backbone), self.options, "text.context"
        shape = (*([len(classes)] if options.per_class else []), options.context, tower.width)
        context = init.normal(key, *shape, std=0.02)
        template = Template.empty(len(classes), options.context)
        if init.device.type != "meta":  # a skeleton has no words, and shapes do not depend on them
            tokenizer = _tokenizer(backbone)
            template = self._template(classes, tokenizer, tower.positions)
            if options.start:
                tokens = torch.tensor(self._start(tokenizer), device=init.device)
                context = nn.Parameter(tower.token_embedding(tokens).detach().expand(shape).clone())
        return TextualHead(tower, context, template), {key: context}

    def _template(self, classes: Sequence[str], tokenizer: Tokenizer, longest: int) -> Template:
        context, stop = [_CONTEXT] * self.options.context, tokenizer.tokens(".")
        before = {"end": len(context), "middle": len(context) // 2, "front": 0}[self.options.class_token_position]
        rows = []
        for name in classes:
            words = tokenizer.tokens(" ".join(name.replace("_", " ").split()))
            row = [tokenizer.start, *context[:before], *words, *context[before:], *stop, tokenizer.end]
            if len(row) > longest:
                raise ConfigError(
                    f"method='textual-prompts': class '{name}' with context={len(context)} makes {len(row)} tokens, "
                    f"and the text tower reads {longest}. Shorten the name or the context."
                )
            rows.append(row)
        return Template.of(rows, tokenizer.end)

    def _start(self, tokenizer: Tokenizer) -> list[int]:
        tokens = tokenizer.tokens(self.options.start)
        if len(tokens) != self.options.context:
            raise ConfigError(
                f"method='textual-prompts': start='{self.options.start}' has {len(tokens)} tokens, and "
                f"context={self.options.context}. Set context={len(tokens)}, or another phrase."
            )
        return tokens


def _text_tower(backbone: Backbone) -> TextTower:
    if not isinstance(backbone, Clip) or backbone.text is None:
        remedy = "It needs both of CLIP's towers (model_type 'clip'), as in openai/clip-vit-base-patch16."
        raise MissingPlace("text tower", remedy)
    return backbone.text


def _tokenizer(backbone: Backbone) -> Tokenizer:
    if backbone.tokenizer is None:
        raise ConfigError(
            f"method='textual-prompts': backbone '{backbone.record.name}' has a text tower but no tokenizer beside it. "
            "Put tokenizer.json, or vocab.json and merges.txt, where its weights are."
        )
    return backbone.tokenizer
