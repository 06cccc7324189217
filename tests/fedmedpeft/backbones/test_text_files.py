"""Text towers as published: what Hugging Face computes, whatever the file is called and whatever stands beside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertModel, PreTrainedModel, RobertaConfig, RobertaModel

from fedmedpeft.backbones.text_files import find_text_tower
from fedmedpeft.components import ConfigError
from tests.tiny_meter import save_roberta

_QUESTIONS = ["Is there fluid in the left lung?", "brain", "Which organ is this, the liver or the heart?"]


@pytest.fixture
def bert(tiny_text_tower: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_text_tower, tmp_path / "bert"))


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    save_roberta(tmp_path / "roberta", **sizes, vocab_size=60, max_position_embeddings=80)
    torch.manual_seed(5)
    model = RobertaModel(RobertaConfig.from_pretrained(tmp_path / "roberta"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "roberta")
    return tmp_path / "roberta"


def _edit(directory: Path, **changes: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    tensors = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


@torch.no_grad()
def _agree(directory: Path, reference: PreTrainedModel, tolerance: float) -> None:
    """On the tokens of texts of several lengths, padding left out."""
    tower = find_text_tower(str(directory), "")
    text = tower.tokenizer().encode(_QUESTIONS, 40)
    found = tower.encoder().eval()(text)
    expected = reference.eval()(input_ids=text.ids, attention_mask=text.mask.long()).last_hidden_state
    torch.testing.assert_close(found[text.mask], expected[text.mask], atol=tolerance, rtol=tolerance)


def test_bert_computes_what_hugging_face_computes(tiny_text_tower: Path) -> None:
    _agree(tiny_text_tower, BertModel.from_pretrained(tiny_text_tower), 1e-5)


def test_roberta_computes_what_hugging_face_computes(roberta: Path) -> None:
    _agree(roberta, RobertaModel.from_pretrained(roberta), 1e-5)


def test_a_pretrained_text_tower_computes_what_hugging_face_computes(minilm: Path) -> None:
    _agree(minilm, BertModel.from_pretrained(minilm), 1e-5)


def test_sizes_are_read_without_weights(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    sizes = find_text_tower(str(bert), "").architecture
    assert (sizes.model, sizes.hidden_size, sizes.depth, sizes.heads, sizes.ffn_size) == ("bert", 24, 2, 2, 48)
    assert (sizes.positions, sizes.types, sizes.padding, sizes.longest) == (32, 2, 0, 32)


def test_roberta_has_room_for_fewer_tokens_than_positions(roberta: Path) -> None:
    sizes = find_text_tower(str(roberta), "").architecture
    assert (sizes.positions, sizes.longest) == (80, 78)


def _states(directory: Path) -> dict[str, torch.Tensor]:
    return find_text_tower(str(directory), "").encoder().state_dict()


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_language_model_is_read_without_its_head(bert: Path, tmp_path: Path) -> None:
    model = BertForMaskedLM.from_pretrained(bert)
    shutil.copytree(bert, tmp_path / "with-head")
    model.save_pretrained(tmp_path / "with-head")
    assert any(name.startswith("cls.") for name in load_file(tmp_path / "with-head" / "model.safetensors"))
    assert _equal(_states(bert), _states(tmp_path / "with-head"))


def test_names_from_tensorflow_are_understood(bert: Path) -> None:
    before = _states(bert)
    path = bert / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in load_file(path).items():
        for new, theirs in old.items():
            name = name.replace(new, theirs)
        renamed[f"bert.{name}"] = tensor
    save_file({**renamed, "bert.embeddings.position_ids": torch.arange(32)[None]}, path)
    assert _equal(_states(bert), before)


def test_weights_as_torch_saves_them(bert: Path) -> None:
    before = _states(bert)
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    assert _equal(_states(bert), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.layer.1.output.dense.bias": None}, r"1 tensors missing \(blocks.1.ffn.ffn_out.bias\)"),
        ({"encoder.layer.0.adapter.weight": torch.zeros(1)}, r"unknown \(encoder.layer.0.adapter.weight\)"),
        ({"embeddings.word_embeddings.weight": torch.zeros(7, 24)}, "of another shape"),
        ({"embeddings.LayerNorm.weight": torch.full((24,), torch.nan)}, "not finite"),
    ],
)
def test_half_a_tower_is_refused(bert: Path, changes: dict[str, torch.Tensor | None], message: str) -> None:
    _edit(bert, **changes)
    with pytest.raises(ConfigError, match=message):
        _states(bert)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "deberta"}, "model_type='deberta'; expected one of bert, roberta"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"is_decoder": True}, "absolute positions"),
        ({"hidden_size": 0}, "config.json does not fit"),
        ({"hidden_size": "wide"}, "config.json does not fit"),
        ({"num_attention_heads": 5}, "config.json does not fit"),
    ],
)
def test_configurations_that_do_not_fit_are_named(bert: Path, change: dict[str, object], message: str) -> None:
    path = bert / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        find_text_tower(str(bert), "")


def test_what_is_not_there_is_named(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/nothing", "/nowhere/at/all", "bert"):
        with pytest.raises(ConfigError, match="is no directory, and is neither in this machine's cache"):
            find_text_tower(name, "")
    with pytest.raises(ConfigError, match="text_revision='1' applies to Hugging Face names"):
        find_text_tower(str(bert), "1")
    (bert / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="there is no model.safetensors or pytorch_model.bin"):
        _states(bert)
    (bert / "config.json").unlink()
    with pytest.raises(ConfigError, match="no config.json in it"):
        find_text_tower(str(bert), "")


def _damage_tokenizer(directory: Path, change: str) -> None:
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    if change == "large":
        vocabulary["##new"] = 5000
    elif change == "padding":
        content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] != "[PAD]"]
        vocabulary["[PAD]"], vocabulary["lung"] = vocabulary["lung"], vocabulary["[PAD]"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [("large", "has 5001 tokens, its text tower only"), ("padding", r"pads with token \d+, its text tower expects 0")],
)
def test_a_tokenizer_of_another_tower_is_refused(bert: Path, change: str, message: str) -> None:
    _damage_tokenizer(bert, change)
    with pytest.raises(ConfigError, match=message):
        find_text_tower(str(bert), "").tokenizer()


def test_a_tokenizer_of_another_kind_is_refused(bert: Path, roberta: Path) -> None:
    shutil.copy(roberta / "tokenizer.json", bert)
    with pytest.raises(ConfigError, match=r"no token '\[CLS\]', so it is none of a bert"):
        find_text_tower(str(bert), "").tokenizer()
    (bert / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"\(tokenizer.json, or vocab.txt\) cannot be read"):
        find_text_tower(str(bert), "").tokenizer()


def test_a_tower_without_a_tokenizer_is_refused(bert: Path) -> None:
    for path in bert.glob("*token*"):
        path.unlink()
    with pytest.raises(ConfigError, match="no tokenizer beside its config.json"):
        find_text_tower(str(bert), "").tokenizer()
