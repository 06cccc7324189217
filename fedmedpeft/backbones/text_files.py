"""Where a text tower's files lie, and what they hold: BERT or RoBERTa as Hugging Face has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from transformers import BertConfig, RobertaConfig
from transformers.utils.hub import cached_file

from fedmedpeft.backbones.architecture import TextArchitecture
from fedmedpeft.backbones.bert_names import in_encoder, in_language_head, is_unused
from fedmedpeft.backbones.checkpoint_files import read_json
from fedmedpeft.backbones.fit import fit, refuse_non_finite
from fedmedpeft.backbones.tensor_files import read_tensors
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.backbones.tokenizer import TOKENIZER_FILES, Tokenizer
from fedmedpeft.components import ConfigError, explain

_CONFIGS = {"bert": BertConfig, "roberta": RobertaConfig}
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.")


class TextTowerFiles(NamedTuple):
    """A text tower by name.

    Attributes:
        name: as configured.
        directory: where its files lie.
        architecture: sizes.
    """

    name: str
    directory: Path
    architecture: TextArchitecture

    def tokenizer(self) -> Tokenizer:
        """Raises ConfigError where there is none, or another tower's."""
        found = Tokenizer.read(self.directory, self.architecture.model)
        if found is None:
            raise ConfigError(
                f"text='{self.name}': no tokenizer beside its config.json. Put tokenizer.json there, or what it was "
                "published with (vocab.txt of a BERT, vocab.json and merges.txt of a RoBERTa)."
            )
        found.check(self.architecture.vocabulary, self.architecture.padding)
        return found

    def encoder(self) -> TextEncoder:
        """The tower with its weights. Raises ConfigError where a tensor is missing, unknown, misshapen, not finite."""
        source = f"text='{self.name}'"
        tensors = _renamed(self._tensors(source), self.architecture.model)
        refuse_non_finite(self.name, tensors)
        with torch.device("meta"):
            encoder = TextEncoder(self.architecture)
        wrong = fit(encoder, tensors)
        if wrong:
            raise ConfigError(f"{source} does not fit its config.json: {wrong}. Check what was saved there.")
        return encoder

    def language_head(self) -> dict[str, torch.Tensor]:
        """What a BERT was pretrained to predict words with, in our names; empty where its file has none of it."""
        named = {in_language_head(name): tensor for name, tensor in self._tensors(f"text='{self.name}'").items()}
        return {name: tensor for name, tensor in named.items() if name}

    def _tensors(self, source: str) -> dict[str, torch.Tensor]:
        path = next((self.directory / name for name in _WEIGHTS if (self.directory / name).is_file()), None)
        if path is None:
            raise ConfigError(f"{source}: there is no {' or '.join(_WEIGHTS)} of it.")
        return read_tensors(path, source)


def find_text_tower(name: str, revision: str, *, tokenizer: bool = False, weights: bool = False) -> TextTowerFiles:
    """Find a text tower and read its sizes.

    Args:
        name: a directory, or a Hugging Face repository.
        revision: commit of the repository; empty for its default branch.
        tokenizer, weights: whether they are needed too.

    Raises:
        ConfigError: nothing there, or neither BERT nor RoBERTa.
    """
    directory = Path(name)
    if not directory.is_dir():
        directory = _in_hub(name, revision, tokenizer=tokenizer, weights=weights)
    elif revision:
        raise ConfigError(f"text_revision='{revision}' applies to Hugging Face names; text='{name}' is local.")
    config = read_json(directory / "config.json")
    if config is None:
        raise ConfigError(f"text='{name}': no config.json in it. Save the model with save_pretrained() there.")
    return TextTowerFiles(name, directory, _architecture(name, config))


def _in_hub(name: str, revision: str, *, tokenizer: bool, weights: bool) -> Path:
    refusal = ConfigError(
        f"text='{name}'{f' at {revision}' if revision else ''} is no directory, and is neither in this machine's cache "
        "nor could it be fetched. Offline, download it once (config.json, tokenizer, weights) and write text=<its "
        "directory>."
    )
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise refusal

    def fetch(filename: str, *, required: bool = False) -> str | None:
        found: str | None = cached_file(
            name, filename, revision=revision or None, _raise_exceptions_for_missing_entries=required
        )
        return found

    try:
        config = fetch("config.json", required=True)
        for filename in TOKENIZER_FILES if tokenizer else ():
            fetch(filename)
        if weights and not fetch(_WEIGHTS[0]):
            fetch(_WEIGHTS[1])
    except OSError as error:
        # The error's own text may hold local paths, and this sentence may travel.
        raise refusal from error
    return Path(str(config)).parent


def _architecture(name: str, config: dict[str, Any]) -> TextArchitecture:
    model = config.get("model_type")
    if model not in _CONFIGS:
        raise ConfigError(f"text='{name}' has model_type={model!r}; expected one of {', '.join(_CONFIGS)}.")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise ConfigError(f"text='{name}': only an encoder with absolute positions is read. Choose another text tower.")
    try:
        read = _CONFIGS[model](**config)
        return TextArchitecture.model_validate(
            {
                "model": model,
                "hidden_size": read.hidden_size,
                "depth": read.num_hidden_layers,
                "heads": read.num_attention_heads,
                "ffn_size": read.intermediate_size,
                "positions": read.max_position_embeddings,
                "vocabulary": read.vocab_size,
                "types": read.type_vocab_size,
                "padding": read.pad_token_id,
                "layer_norm_eps": read.layer_norm_eps,
                "activation": read.hidden_act,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"text='{name}': config.json does not fit: {explain(error)}.") from None
    except Exception as error:  # transformers reads it before this project does, and raises what its checks raise
        raise ConfigError(f"text='{name}': config.json does not fit: {' '.join(str(error).split())}") from None


def _renamed(tensors: dict[str, torch.Tensor], model: str) -> dict[str, torch.Tensor]:
    """Under the names that they have here; heads are left out, and what is unknown keeps its name."""
    bare = {name.removeprefix(f"{model}."): tensor for name, tensor in tensors.items() if not name.startswith(_HEADS)}
    return {in_encoder(name) or name: tensor for name, tensor in bare.items() if not is_unused(name)}
