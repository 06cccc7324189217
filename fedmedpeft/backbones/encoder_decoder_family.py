"""The encoder-decoder as a kind of backbone: an image tower, a text encoder and a decoder under one roof."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from fedmedpeft.backbones.architecture import EncoderDecoderArchitecture
from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder, LanguageHead
from fedmedpeft.backbones.family import Family
from fedmedpeft.backbones.meter_family import IMAGE_TOWERS, assembled_tower
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.text_encoder import TextEncoder


def networks(architecture: EncoderDecoderArchitecture) -> tuple[TextEncoder, TextEncoder, LanguageHead]:
    """Encoder, decoder and language head: all but the image tower."""
    text = TextEncoder(architecture.text, context_width=architecture.vision.hidden_size)
    decoder = TextEncoder(architecture.decoder, context_width=architecture.text.hidden_size, causal=True)
    return text, decoder, LanguageHead(architecture.decoder)


class EncoderDecoderModel(nn.Module):
    """The networks of an encoder-decoder side by side; what its weights are loaded into.

    Attributes:
        vision: as Hugging Face has it.
        text: the encoder, which reads the image.
        decoder: reads the encoder's states.
        head: from the decoder's states to words.
    """

    def __init__(self, vision: PreTrainedModel, text: TextEncoder, decoder: TextEncoder, head: LanguageHead) -> None:
        super().__init__()
        self.vision, self.text, self.decoder, self.head = vision, text, decoder, head


class EncoderDecoderFamily(Family[EncoderDecoderArchitecture, EncoderDecoderModel]):
    """``encoder-decoder``; see :class:`fedmedpeft.backbones.encoder_decoder.EncoderDecoder`."""

    def new_model(self, architecture: EncoderDecoderArchitecture) -> EncoderDecoderModel:
        vision = IMAGE_TOWERS[architecture.vision.family].new_model(architecture.vision)
        return EncoderDecoderModel(vision, *networks(architecture))

    def resized(self, model: EncoderDecoderModel, architecture: EncoderDecoderArchitecture) -> EncoderDecoderModel:
        vision = IMAGE_TOWERS[architecture.vision.family].resized(model.vision, architecture.vision)
        return EncoderDecoderModel(vision, model.text, model.decoder, model.head)

    def assemble(self, model: EncoderDecoderModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        assert isinstance(record.architecture, EncoderDecoderArchitecture)
        return EncoderDecoder(
            record,
            vision=assembled_tower(model.vision, record.architecture.vision, record),
            text=model.text,
            decoder=model.decoder,
            head=model.head,
            fingerprint=fingerprint,
        )
