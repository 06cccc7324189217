from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fedmedpeft.backbones.tokenizer import Kind, Tokenizer
from tests.tiny_clip import tiny_tokenizer
from tests.tiny_meter import save_roberta, tiny_bert_tokenizer

_TEXTS = ["Is there FLUID in the left lung?", "is in", "", "Café-au-lait, 5.2 cm", "what " * 30]


@pytest.fixture(scope="module", params=["bert", "roberta", "clip"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Kind]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "roberta":
        save_roberta(directory)
    else:
        (tiny_bert_tokenizer() if request.param == "bert" else tiny_tokenizer()).save_pretrained(directory)
    return directory, request.param


def _read(directory: Path, kind: Kind) -> Tokenizer:
    tokenizer = Tokenizer.read(directory, kind)
    assert tokenizer is not None
    return tokenizer


def _theirs(directory: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(directory)  # type: ignore[no-any-return]


@pytest.mark.parametrize("length", [40, 6])
def test_texts_become_the_tokens_of_hugging_face(published: tuple[Path, Kind], length: int) -> None:
    found = _read(*published).encode(_TEXTS, length)
    expected = _theirs(published[0])(
        _TEXTS, padding=True, truncation=True, max_length=length, return_tensors="pt", return_attention_mask=True
    )
    assert found.ids.dtype == torch.int64
    assert torch.equal(found.ids, expected["input_ids"])
    assert torch.equal(found.mask, expected["attention_mask"].bool())


def test_pretrained_words_are_those_of_hugging_face(minilm: Path) -> None:
    found = _read(minilm, "bert").encode(_TEXTS, 128)
    expected = _theirs(minilm)(_TEXTS, padding=True, truncation=True, max_length=128, return_tensors="pt")
    assert torch.equal(found.ids, expected["input_ids"])


@pytest.fixture(scope="module")
def words(minilm: Path) -> Tokenizer:
    """A pretrained one."""
    return _read(minilm, "bert")


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=4), length=st.integers(2, 12))
def test_any_text_is_framed_and_padded(texts: list[str], length: int, words: Tokenizer) -> None:
    tokenizer = words
    text = tokenizer.encode(texts, length)
    assert text.ids.shape == text.mask.shape
    assert text.ids.shape[0] == len(texts)
    assert text.ids.shape[1] <= length
    for ids, mask in zip(text.ids, text.mask, strict=True):
        inside = ids[mask]
        assert torch.equal(mask, torch.arange(len(mask)) < len(inside))
        assert (inside[0], inside[-1]) == (tokenizer.start, tokenizer.end)
        assert (ids[~mask] == tokenizer.padding).all()


def test_the_separator_is_one_token_within_a_text(published: tuple[Path, Kind]) -> None:
    tokenizer = _read(*published)
    assert tokenizer.tokens(f"is {tokenizer.separator} in").count(tokenizer.end) == 1


def test_room_for_start_and_end_is_needed(published: tuple[Path, Kind]) -> None:
    tokenizer = _read(*published)
    assert tokenizer.encode(["is"], 2).ids.tolist() == [[tokenizer.start, tokenizer.end]]
    with pytest.raises(ValueError, match="length=1"):
        tokenizer.encode(["is"], 1)


def test_a_vocabulary_without_a_description_is_enough(minilm: Path, tmp_path: Path) -> None:
    """PubMedBERT and other early checkpoints have a vocab.txt and no tokenizer.json."""
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(minilm / name, tmp_path)
    alone, whole = _read(tmp_path, "bert"), _read(minilm, "bert")
    assert torch.equal(alone.encode(_TEXTS, 40).ids, whole.encode(_TEXTS, 40).ids)
    assert alone.hash == whole.hash


def test_the_hash_covers_words_and_how_they_are_found(minilm: Path, tmp_path: Path) -> None:
    marks = {_read(minilm, "bert").hash}
    content = json.loads((minilm / "tokenizer.json").read_text())
    content["truncation"] = None  # says nothing about words
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert {_read(tmp_path, "bert").hash} == marks
    content["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    marks.add(_read(tmp_path, "bert").hash)
    vocabulary = content["model"]["vocab"]
    vocabulary["lung"], vocabulary["heart"] = vocabulary["heart"], vocabulary["lung"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    marks.add(_read(tmp_path, "bert").hash)
    assert len(marks) == 3


def test_tokens_become_words_again(words: Tokenizer) -> None:
    said = "in the left lower lobe"
    tokens = words.encode([said], 20).ids[0].tolist()
    assert words.text(tokens) == words.text(tokens[1:]) == said
    assert words.text([*tokens, *words.tokens("and what follows")]) == said


def test_tokens_without_a_word_say_nothing(words: Tokenizer) -> None:
    left, lung = words.tokens("left lung")
    assert words.text([words.size + 1, left, words.padding, lung]) == "left lung"
    assert words.text([words.end, left]) == words.text([]) == ""
