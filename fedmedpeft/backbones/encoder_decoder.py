"""An image, a question about it, and a decoder that writes the answer: BLIP's encoder-decoder as MISS has it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu, linear, softmax

from fedmedpeft.backbones.architecture import (
    ClipArchitecture,
    EncoderDecoderArchitecture,
    TextArchitecture,
    ViTArchitecture,
)
from fedmedpeft.backbones.backbone import Backbone, Place, Role
from fedmedpeft.backbones.beam_search import beam_search
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.text_encoder import TextEncoder, WordEmbedding
from fedmedpeft.backbones.transformer import Transformer
from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text

_IGNORED = -100
"""What torch's cross-entropy passes over."""


class LanguageHead(nn.Module):
    """States [..., d] -> logits [..., V] of the next word: dense, GELU, LayerNorm, then the words' own embeddings."""

    def __init__(self, architecture: TextArchitecture) -> None:
        super().__init__()
        width = architecture.hidden_size
        self.dense: nn.Module = nn.Linear(width, width)
        self.norm: nn.Module = nn.LayerNorm(width, eps=architecture.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(architecture.vocabulary))

    def forward(self, states: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """``words``: embeddings [V, d]."""
        return linear(self.norm(gelu(self.dense(states))), words, self.bias)


class EncoderDecoder(Backbone):
    """Pixels and a question to the states of its tokens, and those to an answer, word by word.

    The encoder's words attend to the image's tokens, the decoder's to the encoder's states and never to the image.

    Args:
        record: architecture and preprocessing.
        vision: gives all its tokens, normalised; its places begin with ``vision.``.
        text: the encoder, with cross-attention to the image (MISS's joint text-multimodal encoder).
        decoder: causal, with cross-attention to the encoder's states.
        head: from the decoder's states to words.
        fingerprint: of all weights.
    """

    def __init__(
        self,
        record: BackboneRecord,
        *,
        vision: Transformer,
        text: TextEncoder,
        decoder: TextEncoder,
        head: LanguageHead,
        fingerprint: str = "",
    ) -> None:
        super().__init__(record, fingerprint)
        self.vision, self.text, self.decoder, self.head = vision, text, decoder, head
        assert isinstance(decoder.embed, WordEmbedding)
        # Not a child here: whatever methods put around the embedding, the head reads its own weight.
        self._words = (decoder.embed.word,)
        places = [*vision.every_place(), *text.places("text", "text"), *decoder.places("decoder", "decoder")]
        self.freeze([*places, *self._head_places()], self._expected(), None)

    @property
    def architecture(self) -> EncoderDecoderArchitecture:
        """Sizes."""
        assert isinstance(self.record.architecture, EncoderDecoderArchitecture)
        return self.record.architecture

    @property
    def text_length(self) -> int:
        return self.architecture.text_length

    @property
    def feature_size(self) -> int:
        """There is none. Raises ConfigError: a head that reads a feature belongs to another task."""
        raise ConfigError(
            f"backbone '{self.record.name}' (an encoder-decoder) writes answers and has no feature for a head to read. "
            "Set task='generation', or choose another backbone."
        )

    @property
    def longest_answer(self) -> int:
        """The most tokens that an answer may have, [DEC] and the one that ends it among them."""
        return self.architecture.decoder.longest

    @property
    def image_transformer(self) -> Transformer | None:
        return self.vision if self.sees("vision") else None

    def forward(self, pixels: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] and questions [B, T] -> states [B, T, d], which :meth:`decode` reads.

        Raises:
            ValueError: no question, or knowledge, which nothing here reads.
        """
        if text is None or knowledge is not None:
            raise ValueError(f"Backbone '{self.record.name}' reads an image and a question, no more and no less.")
        return self.states(pixels, text)

    def states(self, pixels: torch.Tensor, question: Text) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] and questions [B, T] -> states [B, T, d]; each question begins with [ENC]."""
        encoded: torch.Tensor = self.text(_beginning(question, self.architecture.encode_token), self.vision(pixels))
        return encoded

    def decode(self, states: torch.Tensor, mask: torch.Tensor, answers: Text) -> torch.Tensor:
        """Logits [B, T, V] of the word behind each of the answers' tokens [B, T].

        Args:
            states: of the questions, [B, S, d].
            mask: of the questions, bool [B, S].
            answers: with special tokens around them; the first is read as [DEC].
        """
        decoded = self.decoder(_beginning(answers, self.architecture.decode_token), states, mask)
        logits: torch.Tensor = self.head(decoded, self._words[0].weight)
        return logits

    @torch.no_grad()
    def generate(
        self,
        states: torch.Tensor,
        mask: torch.Tensor,
        *,
        end: int,
        beams: int = 3,
        max_length: int = 10,
        min_length: int = 1,
    ) -> torch.Tensor:
        """The likeliest answers by beam search, int64 [B, <= max_length]: [DEC], words, the end, padding.

        MISS lets answers attend to the padding of questions, here and not in training, so that an answer depends on
        the questions beside it. To reproduce that give a ``mask`` of ones.

        Args:
            states, mask: of the questions, as for :meth:`decode`.
            end: the token that ends an answer; the tokenizer knows it.
            beams: answers kept at every step.
            max_length, min_length: tokens of an answer, [DEC] among them.
        """
        sizes = self.architecture

        def logits(tokens: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.decode(states, mask, Text(tokens, torch.ones_like(tokens, dtype=torch.bool)))

        return beam_search(
            logits,
            states,
            mask,
            start=sizes.decode_token,
            end=end,
            padding=sizes.decoder.padding,
            vocabulary=sizes.decoder.vocabulary,
            beams=beams,
            max_length=max_length,
            min_length=min_length,
        )

    @torch.no_grad()
    def rank(
        self, states: torch.Tensor, mask: torch.Tensor, candidates: Text, *, among: int = 128, smoothing: float = 0.1
    ) -> torch.Tensor:
        """Which of given answers is the likeliest, int64 [B]: the other way to answer in BLIP.

        Args:
            states, mask: of the questions, as for :meth:`decode`.
            candidates: answers [N, T] with special tokens around them.
            among: how many are weighed, those whose first words are the likeliest.
            smoothing: of labels, as in training.
        """
        first = Text(candidates.ids[:1, :1].expand(len(states), 1), mask.new_ones(len(states), 1))
        likely = softmax(self.decode(states, mask, first)[:, 0], dim=-1)[:, candidates.ids[:, 1]]
        chosen = likely.topk(min(among, len(candidates.ids)), dim=1).indices
        answers = candidates.rows(chosen.flatten())
        wide = chosen.shape[1]
        logits = self.decode(states.repeat_interleave(wide, 0), mask.repeat_interleave(wide, 0), answers)
        best = answer_loss(logits, answers, smoothing).view(-1, wide).argmin(1, keepdim=True)
        return chosen.gather(1, best)[:, 0]

    def _head_places(self) -> Iterator[Place]:
        width = self.architecture.decoder.hidden_size
        for role, key, owner, attribute in (
            ("lm_head", "decoder.head", self, "head"),
            ("norm", "decoder.head.norm", self.head, "norm"),
        ):
            yield Place(role, key, owner, attribute, getattr(owner, attribute), width=width, part="decoder")  # type: ignore[arg-type]

    def _expected(self) -> dict[Role, int]:
        sizes = self.architecture
        assert isinstance(sizes.vision, ViTArchitecture | ClipArchitecture)
        image, words = sizes.vision.depth, sizes.text.depth + sizes.decoder.depth
        expected: dict[Role, int] = {"embed": 1, "patch": 1, "norm": 2, "word_embed": 2, "lm_head": 1}
        expected |= {"norm_pre": 2 + (sizes.vision.family == "clip"), "block": image + words}
        expected |= dict.fromkeys(("q", "k", "v", "o"), image + 2 * words)
        expected |= dict.fromkeys(("cross", "norm_cross"), words)
        return expected | dict.fromkeys(("attention", "norm1", "ffn", "norm2", "ffn_in", "ffn_out"), image + words)


def answer_loss(logits: torch.Tensor, answers: Text, smoothing: float) -> torch.Tensor:
    """Cross-entropy of the words behind each token, summed over an answer's words, [B].

    Args:
        logits: what :meth:`EncoderDecoder.decode` gave for ``answers``, [B, T, V].
        answers: [B, T].
        smoothing: of labels (Szegedy et al., CVPR 2016).
    """
    targets = answers.ids.masked_fill(~answers.mask, _IGNORED)[:, 1:]
    losses = cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none", label_smoothing=smoothing)
    return losses.sum(1)


def _beginning(text: Text, token: int) -> Text:
    """The same texts with ``token`` in place of their first."""
    ids = text.ids.clone()
    ids[:, 0] = token
    return Text(ids, text.mask)
