"""The encoder-decoder: its places, and that it computes what MISS and MILE compute."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import BackboneRecord, Preprocessing, skeleton
from fedmedpeft.backbones.architecture import EncoderDecoderArchitecture, TextArchitecture, ViTArchitecture
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder, answer_loss
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text
from tests.golden_encoder_decoder import GoldenEncoderDecoder

SYSTEMS = ("miss", "mile")


@pytest.fixture(scope="module", params=SYSTEMS)
def reference(
    request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> GoldenEncoderDecoder:
    return GoldenEncoderDecoder.read(golden / request.param, tmp_path_factory.mktemp(request.param))


def test_every_intermediate_is_that_of_the_published_system(reference: GoldenEncoderDecoder) -> None:
    backbone = copy.deepcopy(reference.backbone)
    seen: dict[str, torch.Tensor] = {}
    watched = {
        **{f"mid.vit.block{index}": block for index, block in enumerate(backbone.vision.blocks)},
        "mid.image_embeds": backbone.vision,
        "mid.encoder.embeddings": backbone.text.norm_pre,
        **{f"mid.encoder.layer{index}": block for index, block in enumerate(backbone.text.blocks)},
        "mid.question_states": backbone.text,
        "mid.decoder.embeddings": backbone.decoder.norm_pre,
        **{f"mid.decoder.layer{index}": block for index, block in enumerate(backbone.decoder.blocks)},
    }
    for key, module in watched.items():
        module.register_forward_hook(lambda _, __, output, key=key: seen.__setitem__(key, output))
    states = backbone.states(reference.pixels(), reference.question)
    backbone.decode(states, reference.question.mask, reference.answer)
    assert set(seen) == {key for key in reference.values if key.startswith("mid.")}
    for key, value in seen.items():
        reference.close(key, value)


@pytest.mark.parametrize(("dtype", "prefix"), [(torch.float32, ""), (torch.float64, "f64.")])
def test_logits_and_loss(reference: GoldenEncoderDecoder, dtype: torch.dtype, prefix: str) -> None:
    backbone = copy.deepcopy(reference.backbone).to(dtype)
    states = backbone.states(reference.pixels(dtype), reference.question)
    logits = backbone.decode(states, reference.question.mask, reference.answer)
    losses = answer_loss(logits, reference.answer, 0.1)
    reference.close(f"{prefix}out.decoder_logits", logits)
    reference.close(f"{prefix}out.loss_per_sample", losses)
    reference.close(f"{prefix}out.loss", losses.mean()[None])


_GRADIENTS = {
    "text_encoder.encoder.layer.0.crossattention.self.key.weight": "text.blocks.0.cross.k.weight",
    "text_encoder.encoder.layer.1.attention.output.LayerNorm.weight": "text.blocks.1.norm1.weight",
    "text_decoder.bert.encoder.layer.0.crossattention.self.value.bias": "decoder.blocks.0.cross.v.bias",
    "text_decoder.bert.embeddings.word_embeddings.weight": "decoder.embed.word.weight",
}


def test_gradients(reference: GoldenEncoderDecoder) -> None:
    backbone = copy.deepcopy(reference.backbone).requires_grad_(True)
    states = backbone.states(reference.pixels(), reference.question)
    answer_loss(
        backbone.decode(states, reference.question.mask, reference.answer), reference.answer, 0.1
    ).mean().backward()
    own = dict(backbone.named_parameters())
    by_identity = {id(parameter): name for name, parameter in own.items()}
    original = copy.deepcopy(reference.backbone).original_parameters()
    assert set(original) == set(backbone.original_parameters())

    def gradient(key: str) -> torch.Tensor:
        parameter = backbone.original_parameters()[key]
        assert id(parameter) in by_identity
        assert parameter.grad is not None
        return parameter.grad

    for theirs, ours in _GRADIENTS.items():
        reference.close(f"grad.{theirs}", gradient(ours))
    fused = torch.cat([gradient(f"vision.blocks.0.{role}.weight") for role in "qkv"])
    reference.close("grad.visual_encoder.blocks.0.attn.qkv.weight", fused)
    assert {key for key in reference.values if key.startswith("grad.")} == {
        *(f"grad.{theirs}" for theirs in _GRADIENTS),
        "grad.visual_encoder.blocks.0.attn.qkv.weight",
    }


def test_beam_search_writes_the_published_answers(reference: GoldenEncoderDecoder) -> None:
    """The published systems let answers attend to the questions' padding: a mask of ones."""
    states = reference.backbone.states(reference.pixels(), reference.question)
    seen = torch.ones_like(reference.question.mask)
    found = reference.backbone.generate(states, seen, end=3)
    assert torch.equal(found, reference.values["out.generate_ids"])


def test_with_the_questions_own_mask_padding_changes_no_answer(reference: GoldenEncoderDecoder) -> None:
    backbone, question = reference.backbone, reference.question
    length = int(question.mask[1].sum())
    assert length < question.ids.shape[1]
    alone = Text(question.ids[1:, :length], question.mask[1:, :length])
    together = backbone.generate(backbone.states(reference.pixels(), question), question.mask, end=3)
    by_itself = backbone.generate(backbone.states(reference.pixels()[1:], alone), alone.mask, end=3)
    assert torch.equal(together[1], by_itself[0])


def test_ranking_picks_the_published_candidates(reference: GoldenEncoderDecoder) -> None:
    states = reference.backbone.states(reference.pixels(), reference.question)
    chosen = reference.backbone.rank(states, reference.question.mask, reference.candidates, among=3)
    assert torch.equal(chosen, reference.values["out.rank_k3_choice"])


def test_ranking_among_all_is_the_lowest_loss(reference: GoldenEncoderDecoder) -> None:
    backbone, question, candidates = reference.backbone, reference.question, reference.candidates
    states = backbone.states(reference.pixels(), question)
    losses = [
        answer_loss(
            backbone.decode(states, question.mask, candidates.rows(torch.full((2,), row))),
            candidates.rows(torch.full((2,), row)),
            0.0,
        )
        for row in range(len(candidates.ids))
    ]
    chosen = backbone.rank(states, question.mask, candidates, among=100, smoothing=0.0)
    assert torch.equal(chosen, torch.stack(losses).argmin(0))


def test_position_embeddings_for_another_image_size(reference: GoldenEncoderDecoder) -> None:
    torch.testing.assert_close(
        resize_positions(reference.values["posembed.in"], side=2),
        reference.values["posembed.out"],
        rtol=1e-5,
        atol=1e-6,
    )


def published() -> BackboneRecord:
    """MISS as released: ViT-B/16 at 480 px, two BERT-base."""
    words = TextArchitecture(
        model="bert", hidden_size=768, depth=12, heads=12, ffn_size=3072, positions=512, vocabulary=30524, types=0,
        padding=0, layer_norm_eps=1e-12,
    )  # fmt: skip
    vision = ViTArchitecture(
        hidden_size=768, depth=12, heads=12, ffn_size=3072, patch_size=16, image_size=480, layer_norm_eps=1e-6
    )
    return BackboneRecord(
        name="miss",
        architecture=EncoderDecoderArchitecture(vision=vision, text=words, decoder=words),
        preprocessing=Preprocessing(image_size=480, mean=(0.0,) * 3, std=(1.0,) * 3),
    )


def test_the_published_size_has_as_many_parameters() -> None:
    backbone = skeleton(published())
    total = sum(parameter.numel() for parameter in backbone.original_parameters().values())
    assert total == 86_339_328 + 137_258_496 + 137_881_148  # ViT-B at 480 px, encoder, decoder with its head
    assert total == sum(parameter.numel() for parameter in backbone.parameters())


def test_places() -> None:
    backbone = skeleton(published())
    assert backbone.parts == ("vision", "text", "decoder")
    keys = [place.key for place in backbone.every_place()]
    assert len(set(keys)) == len(keys)
    found = Counter((place.part, place.role) for place in backbone.every_place())
    assert found["decoder", "cross"] == found["text", "cross"] == 12
    assert found["decoder", "q"] == found["text", "q"] == 24
    assert found["vision", "q"] == 12
    assert found["decoder", "lm_head"] == 1
    assert {"vision.blocks.3.q", "text.blocks.0.cross.k", "decoder.blocks.11.cross.norm", "decoder.head.norm"} <= set(
        keys
    )
    assert "decoder.head.bias" in backbone.original_parameters("lm_head")
    assert "decoder.embed.word.weight" in backbone.original_parameters("word_embed")


def test_there_is_no_feature_for_a_head() -> None:
    backbone = skeleton(published())
    with pytest.raises(ConfigError, match="task='generation'"):
        _ = backbone.feature_size


def test_it_reads_an_image_and_a_question(reference: GoldenEncoderDecoder) -> None:
    with pytest.raises(ValueError, match="question"):
        reference.backbone(reference.pixels())
    with pytest.raises(ValueError, match="question"):
        reference.backbone(reference.pixels(), reference.question, reference.question)
    assert isinstance(reference.backbone, EncoderDecoder)
    assert torch.equal(
        reference.backbone(reference.pixels(), reference.question),
        reference.backbone.states(reference.pixels(), reference.question),
    )
