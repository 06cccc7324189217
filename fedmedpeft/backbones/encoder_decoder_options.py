"""An encoder-decoder as it is written in a configuration: ``encoder-decoder(vision=embedded, text=...)``."""

from __future__ import annotations

from pydantic import Field

from fedmedpeft.backbones.composed_options import composed_options
from fedmedpeft.components import ConfigError, Options

ENCODER_DECODER = "encoder-decoder"
_OF_TOWERS = ("vision", "vision_revision", "decoder_depth", "seed")


class EncoderDecoderOptions(Options):
    """Two towers with new cross-attention, or one checkpoint of MISS or MILE with the tokenizer of its BERT."""

    vision: str = Field("", description="image tower, as a backbone is named: 'embedded', a directory, a hub name")
    text: str = Field("", description="BERT: directory or hub name; encoder and decoder start from it")
    checkpoint: str = Field("", description="file of MISS or MILE (.pth, .safetensors) in the place of vision")
    decoder_depth: int = Field(0, ge=0, description="layers of the decoder, the first of the BERT; 0: all")
    text_length: int = Field(40, gt=1, description="tokens that a question is cut to")
    vision_heads: int = Field(0, ge=0, description="of a checkpoint's image tower; 0: its width / 64")
    seed: int = Field(0, ge=0, description="of the weights that nothing brings: cross-attention, language head")
    vision_revision: str = Field("", description="commit of the hub's repository")
    text_revision: str = Field("", description="commit of the hub's repository")


def encoder_decoder_options(name: str, revision: str) -> EncoderDecoderOptions | None:
    """The options in ``encoder-decoder(...)``; None for the name of anything else.

    Raises:
        ConfigError: an unknown option, a value that does not fit, or options that exclude each other.
    """
    options = composed_options(ENCODER_DECODER, EncoderDecoderOptions, name, revision)
    if options:
        _check(options)
    return options


def _check(options: EncoderDecoderOptions) -> None:
    given = options.model_fields_set
    idle = [key for key in (_OF_TOWERS if options.checkpoint else ("vision_heads",)) if key in given]
    if idle:
        why = "checkpoint= brings what it says" if options.checkpoint else "it belongs to checkpoint="
        raise ConfigError(f"backbone '{ENCODER_DECODER}': {', '.join(idle)}: {why}. Leave it out.")
    if not options.text or not (options.vision or options.checkpoint):
        raise ConfigError(
            f"backbone '{ENCODER_DECODER}' needs text=<BERT> and an image tower. Write {ENCODER_DECODER}(vision=<image "
            f"tower>, text=<BERT>), or {ENCODER_DECODER}(checkpoint=<file of MISS or MILE>, text=<its BERT>)."
        )
