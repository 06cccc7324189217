"""Read a backbone by its name and check it: half a checkpoint is never loaded silently."""

from __future__ import annotations

from pydantic import ValidationError

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.encoder_decoder_loading import encoder_decoder_record, read_encoder_decoder
from fedmedpeft.backbones.encoder_decoder_options import encoder_decoder_options
from fedmedpeft.backbones.families import FAMILIES
from fedmedpeft.backbones.family import Loaded
from fedmedpeft.backbones.meter_loading import meter_record, read_meter
from fedmedpeft.backbones.meter_options import meter_options
from fedmedpeft.backbones.published import published_record, read_published
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.components import ConfigError, explain


def load_record(name: str, *, revision: str = "", image_size: int = 0) -> BackboneRecord:
    """Architecture and preprocessing of a backbone.

    Weights are read only where the configuration does not give the sizes: the shapes in a checkpoint of timm's layout,
    of METER, of M3AE or of MISS.

    Args:
        name: ``embedded``, a local directory, a Hugging Face repository, or ``meter(...)`` or
            ``encoder-decoder(...)`` of several such.
        revision: commit of the repository; empty for its default branch.
        image_size: pixels a side; 0 keeps the checkpoint's own.

    Raises:
        ConfigError: nothing there, a network of another kind, or an image size that is not a multiple of the patch.
    """
    if meter := meter_options(name, revision):
        record = meter_record(name, meter)
    elif generative := encoder_decoder_options(name, revision):
        record = encoder_decoder_record(name, generative)
    else:
        record = published_record(name, revision)
    return _sized(record, image_size)


def load_backbone(name: str, *, revision: str = "", image_size: int = 0, device: str = "cpu") -> Backbone:
    """Load a frozen backbone in float32 with its fingerprint. Arguments and errors as in :func:`load_record`.

    Raises:
        ConfigError: also where a tensor is missing, unknown, of another shape or not finite.
    """
    loaded = _read(name, revision)
    record, model = _sized(loaded.record, image_size), loaded.model
    mark = loaded.fingerprint(record)
    family = FAMILIES[record.architecture.family]
    if record.architecture != loaded.record.architecture:
        model = family.resized(model, record.architecture)
    backbone = family.assemble(model, record, mark).to(device)
    backbone.tokenizer = loaded.tokenizer
    return backbone


def _read(name: str, revision: str) -> Loaded:
    if meter := meter_options(name, revision):
        return read_meter(name, meter)
    if generative := encoder_decoder_options(name, revision):
        return read_encoder_decoder(name, generative)
    return read_published(name, revision)


def _sized(record: BackboneRecord, image_size: int) -> BackboneRecord:
    try:
        return record.at_image_size(image_size) if image_size else record
    except ValidationError as error:
        raise ConfigError(f"Backbone '{record.name}': {explain(error)}.") from None
