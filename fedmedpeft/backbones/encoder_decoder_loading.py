"""Encoder-decoders: two published towers with new cross-attention, or one checkpoint that has it all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ValidationError

from fedmedpeft.backbones.architecture import (
    ClipArchitecture,
    EncoderDecoderArchitecture,
    TextArchitecture,
    ViTArchitecture,
)
from fedmedpeft.backbones.encoder_decoder import LanguageHead
from fedmedpeft.backbones.encoder_decoder_family import EncoderDecoderFamily, EncoderDecoderModel, networks
from fedmedpeft.backbones.encoder_decoder_options import EncoderDecoderOptions
from fedmedpeft.backbones.family import Loaded
from fedmedpeft.backbones.fit import fit, refuse_non_finite
from fedmedpeft.backbones.fusion_weights import draw_weights
from fedmedpeft.backbones.meter_family import IMAGE_TOWERS
from fedmedpeft.backbones.miss_checkpoint import depths, from_miss, image_tower
from fedmedpeft.backbones.post_norm import PostNormBlock
from fedmedpeft.backbones.published import published_record, read_published, sizes_with_tokens
from fedmedpeft.backbones.record import BackboneRecord, Preprocessing
from fedmedpeft.backbones.tensor_files import find_checkpoint, read_shapes, read_tensors
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.backbones.text_files import TextTowerFiles, find_text_tower
from fedmedpeft.components import ConfigError, explain

_NEW_WORDS = 2
"""[DEC] and [ENC]."""
_WORDS = "embed.word.weight"


def encoder_decoder_record(name: str, options: EncoderDecoderOptions) -> BackboneRecord:
    """Architecture and preprocessing; of a checkpoint only the shapes are read. Raises ConfigError."""
    text = find_text_tower(options.text, options.text_revision).architecture
    if options.checkpoint:
        path, source = find_checkpoint(options.checkpoint)
        return _record_of_checkpoint(name, options, text, read_shapes(path, source), source)
    return _record_of_towers(name, options, text, published_record(options.vision, options.vision_revision))


def read_encoder_decoder(name: str, options: EncoderDecoderOptions) -> Loaded:
    """The same with its weights, all of them checked. Raises ConfigError."""
    return _read_checkpoint(name, options) if options.checkpoint else _read_towers(name, options)


def _read_towers(name: str, options: EncoderDecoderOptions) -> Loaded:
    text = find_text_tower(options.text, options.text_revision, tokenizer=True, weights=True)
    tokenizer = text.tokenizer()
    vision = read_published(options.vision, options.vision_revision)
    record = _record_of_towers(name, options, text.architecture, vision.record)
    sizes = record.architecture
    assert isinstance(sizes, EncoderDecoderArchitecture)
    tensors = text.encoder().state_dict()
    # What stands for a new word is read as [CLS] is, until someone trains it.
    words = tensors[_WORDS]
    tensors[_WORDS] = torch.cat([words, words[tokenizer.start].expand(_NEW_WORDS, -1)])
    with torch.device("meta"):
        encoder, decoder, head = networks(sizes)
    for network, part in ((encoder, "text"), (decoder, "decoder")):
        _start(network, tensors, options.seed, part)
    _start_head(head, text, tokenizer.start, options.seed)
    tower = IMAGE_TOWERS[sizes.vision.family].image_tower(vision.model, sizes.vision)
    return Loaded(record, EncoderDecoderModel(tower, encoder, decoder, head), tokenizer)


def _start(network: TextEncoder, tensors: Mapping[str, torch.Tensor], seed: int, part: str) -> None:
    """The BERT's weights, as deep as ``network`` is, and new cross-attention."""
    own = network.state_dict()
    network.load_state_dict({key: t.clone() for key, t in tensors.items() if key in own}, strict=False, assign=True)
    for index, block in enumerate(network.blocks):
        assert isinstance(block, PostNormBlock)
        assert block.cross is not None
        draw_weights(block.cross, seed, f"{part}.blocks.{index}.cross")


def _start_head(head: LanguageHead, text: TextTowerFiles, start: int, seed: int) -> None:
    """What the BERT was pretrained to predict words with; new where its checkpoint has none."""
    found = text.language_head()
    if not found:
        draw_weights(head, seed, "decoder.head")
        return
    bias = found.get("bias", torch.empty(0))
    if len(bias) == text.architecture.vocabulary:
        found["bias"] = torch.cat([bias, bias[start].expand(_NEW_WORDS)])
    wrong = fit(head, found)
    if wrong:
        raise ConfigError(f"text='{text.name}': its language head does not fit: {wrong}. Check what was saved there.")
    refuse_non_finite(text.name, found)


def _record_of_towers(
    name: str, options: EncoderDecoderOptions, text: TextArchitecture, vision: BackboneRecord
) -> BackboneRecord:
    whole = sizes_with_tokens(vision, name)
    if options.decoder_depth > text.depth:
        raise ConfigError(
            f"backbone '{name}': decoder_depth={options.decoder_depth}, and text='{options.text}' has {text.depth} "
            "layers. Leave it out for all of them."
        )
    tower = IMAGE_TOWERS[whole.family].as_image_tower(whole, whole.depth)
    words = text.model_copy(update={"vocabulary": text.vocabulary + _NEW_WORDS})
    remark = f"cross-attention random, and so is a language head that text= does not bring (seed={options.seed})"
    return BackboneRecord(
        name=name,
        architecture=_architecture(name, options, tower, words, (text.depth, options.decoder_depth or text.depth)),
        preprocessing=vision.preprocessing,
        remarks=(*vision.remarks, remark),
    )


def _read_checkpoint(name: str, options: EncoderDecoderOptions) -> Loaded:
    text = find_text_tower(options.text, options.text_revision, tokenizer=True)
    tokenizer = text.tokenizer()
    path, source = find_checkpoint(options.checkpoint)
    stored = read_tensors(path, source)
    shapes = {key: tensor.shape for key, tensor in stored.items()}
    record = _record_of_checkpoint(name, options, text.architecture, shapes, source)
    assert isinstance(record.architecture, EncoderDecoderArchitecture)
    tensors = from_miss(stored, source)
    model = EncoderDecoderFamily().new_model(record.architecture)
    wrong = fit(model, tensors)
    if wrong:
        raise ConfigError(
            f"{source} does not fit: {wrong}. Check that the file is complete, and that text='{text.name}' is the BERT "
            "that it was made from."
        )
    refuse_non_finite(name, tensors)
    return Loaded(record, model, tokenizer)


def _record_of_checkpoint(
    name: str, options: EncoderDecoderOptions, text: TextArchitecture, shapes: Mapping[str, torch.Size], source: str
) -> BackboneRecord:
    vision = image_tower(shapes, options.vision_heads, source)
    words = text.model_copy(update={"vocabulary": text.vocabulary + _NEW_WORDS, "types": 0})
    # Its pixels are between 0 and 1 as they come.
    preprocessing = Preprocessing(
        image_size=vision.image_size, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bicubic"
    )
    architecture = _architecture(name, options, vision, words, depths(shapes, source))
    return BackboneRecord(name=name, architecture=architecture, preprocessing=preprocessing)


def _architecture(
    name: str,
    options: EncoderDecoderOptions,
    vision: ViTArchitecture | ClipArchitecture,
    words: TextArchitecture,
    layers: tuple[int, int],
) -> EncoderDecoderArchitecture:
    """``layers``: of encoder and decoder."""
    encoder, decoder = (words.model_copy(update={"depth": depth}) for depth in layers)
    try:
        return EncoderDecoderArchitecture(vision=vision, text=encoder, decoder=decoder, text_length=options.text_length)
    except ValidationError as error:
        raise ConfigError(f"backbone '{name}': {explain(error)}.") from None
