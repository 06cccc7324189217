"""Do task, data, knowledge and backbone go together, and how does the backbone get its texts?"""

from __future__ import annotations

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data.source import Source
from fedmedpeft.data.text_reader import TextReader
from fedmedpeft.tasks.task import build_task


def check_reading(config: RunConfig, source: Source, backbone: Backbone) -> None:
    """Refuse what would be ignored, or would be missing.

    Args:
        config: of the run.
        source: its data.
        backbone: its backbone, or a skeleton of it.

    Raises:
        ConfigError: the data is of another task; the backbone reads texts and there are none, or the other way round;
            or knowledge for a backbone that reads none. Both sides are named.
    """
    task, table, record = build_task(config.task), source.table, backbone.record
    task.check_table(table, source.name)
    task.check_backbone(backbone)
    what = f"backbone '{record.name}' (a {record.architecture.family})"
    reads, said = backbone.text_length > 0, table.texts is not None
    if config.knowledge and not reads:
        raise ConfigError(
            f"knowledge='{config.knowledge}': {what} reads images only. Leave knowledge empty, or choose a backbone "
            "that reads texts."
        )
    if reads and not said:
        raise ConfigError(
            f"Data source '{source.name}' has images only, and {what} reads an image and a text. Choose a source with "
            "questions or captions, or a backbone for images."
        )
    if said and not reads:
        raise ConfigError(
            f"Data source '{source.name}' has texts, and {what} reads images only. Choose a backbone that reads texts, "
            "such as meter(...), or a source of images."
        )


def text_reader(config: RunConfig, backbone: Backbone) -> TextReader | None:
    """What makes tokens of a site's texts, and of the configured knowledge about them; None for a vision backbone.

    Raises:
        ConfigError: the backbone brought no tokenizer, or there is no such source of knowledge.
        DataError: the source of knowledge cannot be read.
    """
    if not backbone.text_length:
        return None
    if backbone.tokenizer is None:
        raise ConfigError(
            f"Backbone '{backbone.record.name}' reads texts and has no tokenizer beside it. Put its tokenizer's files "
            "where its weights are."
        )
    linker = None
    if config.knowledge:
        # Its tables are large, and most runs have none.
        from fedmedpeft.knowledge import build_linker

        linker = build_linker(config.knowledge)
    return TextReader(backbone.tokenizer, backbone.text_length, linker)
