"""A METER-like backbone as it is written in a configuration: ``meter(vision=embedded, text=...)``."""

from __future__ import annotations

from pydantic import Field

from fedmedpeft.backbones.composed_options import composed_options
from fedmedpeft.components import ConfigError, Options

METER = "meter"
ROBERTA = "FacebookAI/roberta-base"
"""The text tower of METER and of M3AE as they were published."""

_OF_TOWERS = ("vision", "vision_revision", "vision_blocks", "fusion_seed")
_OF_CHECKPOINT = ("vision_heads",)


class MeterOptions(Options):
    """Two towers with new fusion layers, or one checkpoint of METER or M3AE.

    Where a size is 0, it is what the checkpoint has, or else METER's own.
    """

    vision: str = Field("", description="image tower, as a backbone is named: 'embedded', a directory, a hub name")
    text: str = Field("", description=f"BERT or RoBERTa: directory or hub name; with a checkpoint usually {ROBERTA}")
    checkpoint: str = Field("", description="file of METER or M3AE (.ckpt, .safetensors) in the place of vision")
    hidden_size: int = Field(0, ge=0, description="width of the fusion layers; METER: 768")
    depth: int = Field(0, ge=0, description="fusion layers of each modality; METER: 6")
    heads: int = Field(0, ge=0, description="attention heads of the fusion layers; METER: 12")
    ffn_size: int = Field(0, ge=0, description="inner width of their feed-forward networks; METER: 4 x hidden_size")
    text_length: int = Field(40, gt=1, description="tokens that a text is cut to")
    vision_blocks: int = Field(0, ge=0, description="of the image tower; 0: all but CLIP's last, as METER has it")
    vision_heads: int = Field(0, ge=0, description="of a checkpoint's image tower; 0: its width / 64, as CLIP has it")
    fusion_seed: int = Field(0, ge=0, description="of the fusion layers' weights, where no checkpoint brings them")
    vision_revision: str = Field("", description="commit of the hub's repository")
    text_revision: str = Field("", description="commit of the hub's repository")


def meter_options(name: str, revision: str) -> MeterOptions | None:
    """The options in ``meter(...)``; None for the name of anything else.

    Raises:
        ConfigError: an unknown option, a value that does not fit, or options that exclude each other.
    """
    options = composed_options(METER, MeterOptions, name, revision)
    if options:
        _check(options)
    return options


def _check(options: MeterOptions) -> None:
    given = options.model_fields_set
    if options.checkpoint:
        idle = [key for key in _OF_TOWERS if key in given]
        if idle:
            raise ConfigError(f"backbone '{METER}': checkpoint= brings what {', '.join(idle)} would say. Leave it out.")
        return
    missing = [key for key in ("vision", "text") if not getattr(options, key)]
    if missing:
        raise ConfigError(
            f"backbone '{METER}' lacks {' and '.join(missing)}. Write {METER}(vision=<image tower>, text=<BERT or "
            f"RoBERTa>), or {METER}(checkpoint=<file>)."
        )
    idle = [key for key in _OF_CHECKPOINT if key in given]
    if idle:
        raise ConfigError(f"backbone '{METER}': {', '.join(idle)} belongs to checkpoint=. Leave it out.")
