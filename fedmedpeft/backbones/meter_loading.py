"""METER-like backbones: two published towers with new fusion layers, or one checkpoint that has it all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ValidationError

from fedmedpeft.backbones.architecture import ClipArchitecture, MeterArchitecture, TextArchitecture, ViTArchitecture
from fedmedpeft.backbones.clip import ClipFamily
from fedmedpeft.backbones.family import Loaded
from fedmedpeft.backbones.fit import fit, refuse_non_finite
from fedmedpeft.backbones.fusion_weights import draw_fusion
from fedmedpeft.backbones.meter import Fusion
from fedmedpeft.backbones.meter_checkpoint import (
    FusionSizes,
    as_meter,
    converted,
    fusion_sizes,
    image_sizes,
    unused_heads,
)
from fedmedpeft.backbones.meter_family import IMAGE_TOWERS, MeterModel
from fedmedpeft.backbones.meter_options import ROBERTA, MeterOptions
from fedmedpeft.backbones.published import published_record, read_published, sizes_with_tokens
from fedmedpeft.backbones.record import BackboneRecord, Preprocessing
from fedmedpeft.backbones.tensor_files import find_checkpoint, read_shapes, read_tensors
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.backbones.text_files import find_text_tower
from fedmedpeft.components import ConfigError, explain

_PUBLISHED = FusionSizes(hidden_size=768, depth=6, ffn_size=0)
_PUBLISHED_HEADS = 12


def meter_record(name: str, options: MeterOptions) -> BackboneRecord:
    """Architecture and preprocessing; of a checkpoint only the shapes are read. Raises ConfigError."""
    text = find_text_tower(options.text or ROBERTA, options.text_revision).architecture
    if options.checkpoint:
        path, source = find_checkpoint(options.checkpoint)
        return _record_of_checkpoint(name, options, text, as_meter(read_shapes(path, source), source), source)
    return _record_of_towers(name, options, text, published_record(options.vision, options.vision_revision))


def read_meter(name: str, options: MeterOptions) -> Loaded:
    """The same with its weights, all of them checked. Raises ConfigError."""
    return _read_checkpoint(name, options) if options.checkpoint else _read_towers(name, options)


def _read_towers(name: str, options: MeterOptions) -> Loaded:
    text = find_text_tower(options.text, options.text_revision, tokenizer=True, weights=True)
    tokenizer = text.tokenizer()
    vision = read_published(options.vision, options.vision_revision)
    record = _record_of_towers(name, options, text.architecture, vision.record)
    sizes = record.architecture
    assert isinstance(sizes, MeterArchitecture)
    with torch.device("meta"):
        fusion = Fusion(sizes)
    draw_fusion(fusion, options.fusion_seed)
    tower = IMAGE_TOWERS[sizes.vision.family].image_tower(vision.model, sizes.vision)
    return Loaded(record, MeterModel(tower, text.encoder(), fusion), tokenizer)


def _record_of_towers(
    name: str, options: MeterOptions, text: TextArchitecture, vision: BackboneRecord
) -> BackboneRecord:
    whole = sizes_with_tokens(vision, name)
    family = IMAGE_TOWERS[whole.family]
    blocks = options.vision_blocks or whole.depth - family.unread_blocks
    if not 0 < blocks <= whole.depth:
        raise ConfigError(
            f"backbone '{name}': vision_blocks={blocks}, and vision='{options.vision}' has {whole.depth} blocks. Set "
            f"vision_blocks to a number from 1 to {whole.depth}."
        )
    tower = family.as_image_tower(whole, blocks)
    architecture = _architecture(name, options, tower, text, _PUBLISHED)
    remark = f"fusion layers random (fusion_seed={options.fusion_seed})"
    return BackboneRecord(
        name=name, architecture=architecture, preprocessing=vision.preprocessing, remarks=(*vision.remarks, remark)
    )


def _read_checkpoint(name: str, options: MeterOptions) -> Loaded:
    text = find_text_tower(options.text or ROBERTA, options.text_revision, tokenizer=True)
    tokenizer = text.tokenizer()
    path, source = find_checkpoint(options.checkpoint)
    stored = as_meter(read_tensors(path, source), source)
    shapes = {key: tensor.shape for key, tensor in stored.items()}
    record = _record_of_checkpoint(name, options, text.architecture, shapes, source)
    sizes = record.architecture
    assert isinstance(sizes, MeterArchitecture)
    vision = IMAGE_TOWERS[sizes.vision.family].new_model(sizes.vision)
    with torch.device("meta"):
        model = MeterModel(vision, TextEncoder(sizes.text), Fusion(sizes))
    tensors = converted(stored)
    wrong = fit(model, tensors)
    if wrong:
        raise ConfigError(
            f"{source} does not fit: {wrong}. Check that the file is complete, and that text='{text.name}' has the "
            "sizes of its text tower."
        )
    refuse_non_finite(name, tensors)
    return Loaded(record, model, tokenizer)


def _record_of_checkpoint(
    name: str, options: MeterOptions, text: TextArchitecture, shapes: Mapping[str, torch.Size], source: str
) -> BackboneRecord:
    vision = image_sizes(shapes, options.vision_heads, source)
    found = fusion_sizes(shapes, source)
    for key, value in found._asdict().items():
        if getattr(options, key) not in (0, value):
            raise ConfigError(f"{source} has {key}={value}, not {getattr(options, key)}. Leave {key} out.")
    heads = unused_heads(shapes)
    preprocessing = Preprocessing(
        image_size=vision.image_size, mean=ClipFamily.mean, std=ClipFamily.std, interpolation="bicubic"
    )
    return BackboneRecord(
        name=name,
        architecture=_architecture(name, options, vision, text, found),
        preprocessing=preprocessing,
        remarks=(f"the checkpoint's {', '.join(heads)} not used",) if heads else (),
    )


def _architecture(
    name: str,
    options: MeterOptions,
    vision: ViTArchitecture | ClipArchitecture,
    text: TextArchitecture,
    usual: FusionSizes,
) -> MeterArchitecture:
    """With the fusion layers as they are configured; what is 0 there is as ``usual``."""
    hidden_size = options.hidden_size or usual.hidden_size
    try:
        return MeterArchitecture(
            vision=vision,
            text=text,
            hidden_size=hidden_size,
            depth=options.depth or usual.depth,
            heads=options.heads or _PUBLISHED_HEADS,
            ffn_size=options.ffn_size or usual.ffn_size or 4 * hidden_size,
            text_length=options.text_length,
        )
    except ValidationError as error:
        raise ConfigError(f"backbone '{name}': {explain(error)}.") from None
