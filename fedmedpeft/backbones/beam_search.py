"""Beam search, which is transformers' own: here it is only told what the next word's logits are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

Logits = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Tokens [B, T] and what they are read with, [B, S, d] and bool [B, S] -> logits [B, T, V]."""


def beam_search(
    logits: Logits,
    states: torch.Tensor,
    mask: torch.Tensor,
    *,
    start: int,
    end: int,
    padding: int,
    vocabulary: int,
    beams: int,
    max_length: int,
    min_length: int,
) -> torch.Tensor:
    """The likeliest sequences, int64 [B, <= max_length]: ``start``, words, ``end``, ``padding``.

    Args:
        logits: of the next word, for sequences of the same length without padding.
        states: what sequences are read with, [B, S, d].
        mask: which of them are seen, bool [B, S].
        start, end, padding: tokens.
        vocabulary: V.
        beams: sequences kept at every step.
        max_length, min_length: of a sequence, ``start`` and ``end`` among it.
    """
    if max_length < 2:
        raise ValueError(f"max_length={max_length} leaves no room for a word behind the start")
    config = GenerationConfig(
        num_beams=beams,
        max_length=max_length,
        min_length=min_length,
        eos_token_id=end,
        pad_token_id=padding,
        bos_token_id=start,
        do_sample=False,
        use_cache=False,
    )
    starts = torch.full((len(states), 1), start, dtype=torch.int64, device=states.device)
    searcher: Any = _Searcher(logits, vocabulary, states.device)
    found: torch.Tensor = searcher.generate(starts, generation_config=config, states=states, seen=mask)
    # transformers takes a padding token of 0 for none, and fills up with the end in its place.
    ends = found == end
    return found.masked_fill(ends.cumsum(1) - ends.long() > 0, padding)


class _Searcher(PreTrainedModel, GenerationMixin):
    """As little of a model as transformers' ``generate`` asks for."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, logits: Logits, vocabulary: int, device: torch.device) -> None:
        super().__init__(PretrainedConfig.from_dict({"vocab_size": vocabulary}))
        self.logits, self._device = logits, device

    @property
    def device(self) -> torch.device:
        """Without parameters of its own it has to say so."""
        return self._device

    def forward(self, input_ids: torch.Tensor, states: torch.Tensor, seen: torch.Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.logits(input_ids, states, seen))

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # The last one's name tells transformers to look at what forward takes.
        return {"input_ids": input_ids, "states": kwargs["states"], "seen": kwargs["seen"]}
