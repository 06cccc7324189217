"""Encoder-decoders from towers and from checkpoints; half of one is never loaded silently."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from fedmedpeft.backbones import BackboneRecord, load_backbone, load_record
from fedmedpeft.backbones.architecture import EncoderDecoderArchitecture
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.tensor_files import read_tensors
from fedmedpeft.components import ConfigError
from fedmedpeft.text import Text
from tests.tiny_meter import save_roberta, tiny_bert_tokenizer
from tests.tiny_miss import miss_tensors, save_miss


def written(vision: Path, text: Path, **options: object) -> str:
    """As a configuration writes it."""
    chosen = {"text_length": 16, **options}
    return f"encoder-decoder(vision='{vision}', text='{text}', {', '.join(f'{k}={v}' for k, v in chosen.items())})"


def read(name: str, image_size: int = 0) -> EncoderDecoder:
    backbone = load_backbone(name, image_size=image_size)
    assert isinstance(backbone, EncoderDecoder)
    return backbone


def sizes(record: BackboneRecord) -> EncoderDecoderArchitecture:
    assert isinstance(record.architecture, EncoderDecoderArchitecture)
    return record.architecture


@pytest.fixture(scope="module")
def masked_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with the head that it was pretrained with."""
    directory = tmp_path_factory.mktemp("bert-mlm")
    tokenizer = tiny_bert_tokenizer()
    tokenizer.save_pretrained(directory)
    torch.manual_seed(1)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
            max_position_embeddings=32, pad_token_id=0,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)
    return directory


class TestTowers:
    def test_both_networks_start_from_the_bert(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        backbone = read(written(tiny_backbone, tiny_text_tower))
        bert = read_tensors(tiny_text_tower / "model.safetensors", "")
        own = backbone.original_parameters()
        for part in ("text", "decoder"):
            assert torch.equal(own[f"{part}.blocks.1.q.weight"], bert["encoder.layer.1.attention.self.query.weight"])
            words = own[f"{part}.embed.word.weight"]
            assert torch.equal(words[:-2], bert["embeddings.word_embeddings.weight"])
            assert backbone.tokenizer is not None
            assert torch.equal(words[-2:], words[backbone.tokenizer.start].expand(2, -1))
        assert own["text.embed.word.weight"] is not own["decoder.embed.word.weight"]

    def test_without_an_image_the_encoder_is_the_bert(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        """Fresh cross-attention aside: with its output silenced, the states are Hugging Face's own."""
        from transformers import BertModel

        backbone = read(written(tiny_backbone, tiny_text_tower))
        assert backbone.tokenizer is not None
        text = backbone.tokenizer.encode(["is there a mass", "what is this"], 12)
        bert = BertModel.from_pretrained(tiny_text_tower, add_pooling_layer=False).eval()
        with torch.no_grad():
            expected = bert(input_ids=text.ids, attention_mask=text.mask.long()).last_hidden_state
            states = backbone.text.norm_pre(backbone.text.embed(text.ids))
            for block in backbone.text.blocks:
                states = block.ffn(block.attention(states, text.mask))
        torch.testing.assert_close(states[text.mask], expected[text.mask], rtol=1e-5, atol=1e-5)

    def test_the_seed_draws_what_is_new_and_nothing_else(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        one, again, other = (read(written(tiny_backbone, tiny_text_tower, seed=seed)) for seed in (1, 1, 2))
        assert one.fingerprint == again.fingerprint != other.fingerprint
        first, second = one.original_parameters(), other.original_parameters()
        differ = {key for key in first if not torch.equal(first[key], second[key])}
        assert differ == {
            *(f"{part}.blocks.{index}.cross.{role}.weight" for part in ("text", "decoder") for index in (0, 1)
              for role in "qkvo"),
            "decoder.head.dense.weight",
        }  # fmt: skip
        assert not torch.equal(first["text.blocks.0.cross.q.weight"], first["decoder.blocks.0.cross.q.weight"])

    def test_the_record_says_what_is_random(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        record = load_record(written(tiny_backbone, tiny_text_tower, seed=7))
        assert record == load_backbone(record.name).record
        assert any("random" in remark and "seed=7" in remark for remark in record.remarks)

    def test_a_pretrained_language_head_comes_along(self, tiny_backbone: Path, masked_language_model: Path) -> None:
        backbone = read(written(tiny_backbone, masked_language_model))
        model = BertForMaskedLM.from_pretrained(masked_language_model).eval()
        states = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = backbone.head(states, backbone.original_parameters()["decoder.embed.word.weight"])
            torch.testing.assert_close(logits[..., :-2], model.cls(states), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"bias": None}, "language head does not fit: 1 tensors missing .bias."),
            ({"bias": torch.zeros(1)}, "language head does not fit: 1 tensors of another shape .bias."),
            ({"transform.dense.weight": None}, "missing .dense.weight."),
            ({"transform.LayerNorm.bias": torch.full((24,), torch.nan)}, "'norm.bias' has values that are not finite"),
        ],
    )
    def test_half_a_language_head_is_refused(
        self,
        change: dict[str, torch.Tensor | None],
        message: str,
        tiny_backbone: Path,
        masked_language_model: Path,
        tmp_path: Path,
    ) -> None:
        directory = Path(shutil.copytree(masked_language_model, tmp_path / "bert"))
        tensors = load_file(directory / "model.safetensors") | {f"cls.predictions.{k}": t for k, t in change.items()}
        save_file({k: t for k, t in tensors.items() if t is not None}, directory / "model.safetensors")
        with pytest.raises(ConfigError, match=message):
            read(written(tiny_backbone, directory))

    def test_a_shallower_decoder(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        backbone = read(written(tiny_backbone, tiny_text_tower, decoder_depth=1))
        assert (len(backbone.text.blocks), len(backbone.decoder.blocks)) == (2, 1)
        with pytest.raises(ConfigError, match="decoder_depth=3"):
            load_record(written(tiny_backbone, tiny_text_tower, decoder_depth=3))

    def test_it_writes_words(self, tiny_backbone: Path, tiny_text_tower: Path) -> None:
        backbone = read(written(tiny_backbone, tiny_text_tower))
        assert backbone.tokenizer is not None
        question = backbone.tokenizer.encode(["is there a mass"], backbone.text_length)
        pixels = torch.zeros(1, 3, 32, 32)
        ids = backbone.generate(backbone.states(pixels, question), question.mask, end=backbone.tokenizer.end)
        assert ids[0, 0] == backbone.architecture.decode_token
        assert isinstance(backbone.tokenizer.text(ids[0, 1:].tolist()), str)

    def test_other_towers_are_refused(
        self, tiny_resnet: Path, tiny_backbone: Path, tiny_text_tower: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="resnet"):
            load_record(written(tiny_resnet, tiny_text_tower))
        with pytest.raises(ConfigError, match="RoBERTa"):
            load_record(written(tiny_backbone, save_roberta(tmp_path, max_position_embeddings=32)))

    def test_a_clip_as_image_tower_keeps_all_its_blocks(self, tiny_clip: Path, tiny_text_tower: Path) -> None:
        backbone = read(written(tiny_clip, tiny_text_tower))
        whole = load_record(str(tiny_clip)).architecture
        assert len(backbone.vision.blocks) == whole.depth  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return miss_tensors(len(tiny_bert_tokenizer()))


class TestCheckpoints:
    def name(self, path: Path, text: Path) -> str:
        return f"encoder-decoder(checkpoint='{path}', text='{text}', vision_heads=2, text_length=16)"

    def test_every_tensor_finds_its_place(
        self, tensors: dict[str, torch.Tensor], tiny_text_tower: Path, tmp_path: Path
    ) -> None:
        name = self.name(save_miss(tmp_path / "miss.pth", tensors), tiny_text_tower)
        backbone = read(name)
        own = backbone.original_parameters()
        published = [name for name in tensors if not name.endswith("position_ids") and ".decoder." not in name]
        assert sum(p.numel() for p in own.values()) == sum(tensors[name].numel() for name in published)
        value = tensors["visual_encoder.blocks.1.attn.qkv.weight"].chunk(3)[2]
        assert torch.equal(own["vision.blocks.1.v.weight"], value)
        cross = tensors["text_decoder.bert.encoder.layer.0.crossattention.self.key.weight"]
        assert torch.equal(own["decoder.blocks.0.cross.k.weight"], cross)
        assert torch.equal(own["decoder.head.bias"], tensors["text_decoder.cls.predictions.bias"])
        assert backbone.record == load_record(name)
        assert backbone.record.preprocessing.mean == (0.0, 0.0, 0.0)
        assert sizes(backbone.record).text.types == 0

    def test_for_another_image_size_positions_are_interpolated(
        self, tensors: dict[str, torch.Tensor], tiny_text_tower: Path, tmp_path: Path
    ) -> None:
        name = self.name(save_miss(tmp_path / "miss.pth", tensors), tiny_text_tower)
        small = read(name, image_size=16)
        expected = resize_positions(tensors["visual_encoder.pos_embed"], 2)
        assert torch.equal(small.original_parameters()["vision.embed.position"], expected)
        question = Text(torch.full((1, 3), 5), torch.ones(1, 3, dtype=torch.bool))
        assert small.states(torch.zeros(1, 3, 16, 16), question).shape == (1, 3, 24)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"text_encoder.encoder.layer.1.crossattention.self.key.bias": None}, "missing"),
            ({"text_encoder.encoder.layer.1.extra.weight": torch.zeros(2)}, "unknown"),
            ({"text_decoder.bert.embeddings.LayerNorm.weight": torch.zeros(25)}, "of another shape"),
            ({"text_decoder.cls.predictions.decoder.bias": torch.zeros(3)}, "one tensor"),
            ({"visual_encoder.pos_embed": None}, "incomplete"),
            ({"visual_encoder.blocks.0.norm1.bias": torch.full((16,), torch.nan)}, "not finite"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self,
        change: dict[str, torch.Tensor | None],
        message: str,
        tensors: dict[str, torch.Tensor],
        tiny_text_tower: Path,
        tmp_path: Path,
    ) -> None:
        changed = {name: t for name, t in (tensors | change).items() if t is not None}
        path = save_miss(tmp_path / "miss.pth", changed)
        with pytest.raises(ConfigError, match=message):
            load_backbone(self.name(path, tiny_text_tower))

    def test_heads_must_divide_the_width(
        self, tensors: dict[str, torch.Tensor], tiny_text_tower: Path, tmp_path: Path
    ) -> None:
        name = self.name(save_miss(tmp_path / "miss.pth", tensors), tiny_text_tower)
        with pytest.raises(ConfigError, match="multiple of heads=5.*Set vision_heads"):
            load_record(name.replace("vision_heads=2", "vision_heads=5"))

    def test_another_bert_is_refused(self, tiny_text_tower: Path, tmp_path: Path) -> None:
        path = save_miss(tmp_path / "miss.pth", miss_tensors(300))
        with pytest.raises(ConfigError, match="another shape.*the BERT"):
            load_backbone(self.name(path, tiny_text_tower))

    def test_other_files_are_refused(self, tiny_text_tower: Path, tmp_path: Path) -> None:
        other = save_miss(tmp_path / "other.pth", {"vit_model.conv1.weight": torch.zeros(1)})
        with pytest.raises(ConfigError, match="no checkpoint of MISS"):
            load_record(self.name(other, tiny_text_tower))
        with pytest.raises(ConfigError, match="no such file"):
            load_record(self.name(tmp_path / "gone.pth", tiny_text_tower))
        whole = save_miss(tmp_path / "whole.pth", {"a": torch.zeros(1000)})
        (tmp_path / "half.pth").write_bytes(whole.read_bytes()[:2000])
        with pytest.raises(ConfigError, match="cut short"):
            load_record(self.name(tmp_path / "half.pth", tiny_text_tower))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("vision=a", "needs text="),
        ("text=b", "needs text="),
        ("vision=a, text=b, vision_heads=3", "vision_heads"),
        ("checkpoint=c, text=b, seed=1", "seed"),
        ("vision=a, text=b, decoder_dept=3", "decoder_depth"),
        ("vision=a, text=b, text_length=1", "text_length"),
    ],
)
def test_options_that_do_not_fit_are_named(options: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_record(f"encoder-decoder({options})")


def test_a_revision_belongs_to_one_network() -> None:
    with pytest.raises(ConfigError, match="vision_revision"):
        load_record("encoder-decoder(vision=a, text=b)", revision="main")


def test_no_local_path_is_in_what_may_travel(tiny_text_tower: Path, tmp_path: Path) -> None:
    """A sentence about a damaged file has the name that was configured, not what torch says."""
    (tmp_path / "x.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ConfigError) as caught:
        load_record(f"encoder-decoder(checkpoint='{tmp_path / 'x.pth'}', text='{tiny_text_tower}')")
    assert not re.search("weights_only|pickle", str(caught.value))
