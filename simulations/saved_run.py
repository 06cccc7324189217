"""What a run left behind, as the command finds it again."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedmedpeft.adapter_file import CONFIG_FILE, is_adapter, read_adapter, without_path
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest
from fedmedpeft.methods import stays_at_sites
from fedmedpeft.tasks import Task, build_task
from server.data_words import EACH_ITS_OWN, data_of_run
from simulations.preflight import PARTITION_FILE

Kept = Literal["nothing", "personal", "own"]
"""Which of a site's tensors replace the federated ones: none, the parts that were never exchanged, or all of the site's
own model, fine-tuned after the last round."""


@dataclass(frozen=True)
class SavedRun:
    """A run's directory (None for an adapter on its own) and its adapter's."""

    directory: Path | None
    adapter: Path

    @classmethod
    def find(cls, path: Path) -> SavedRun:
        """``path`` is the one or the other.

        Raises:
            ConfigError: it is neither.
        """
        path = path.absolute()
        adapter = path if is_adapter(path) else path / "adapter"
        if not is_adapter(adapter):
            raise ConfigError(f"'{path}' is neither a run with an adapter nor an adapter: it has no {CONFIG_FILE}.")
        run = adapter.parent
        return cls(run if (run / "config.toml").is_file() else None, adapter)

    def config(self) -> RunConfig:
        """The configuration of the run; the defaults for an adapter on its own. Raises ConfigError where damaged."""
        if self.directory is None:
            return RunConfig()
        path = self.directory / "config.toml"
        try:
            return RunConfig.from_mapping(self._content()["config"])
        except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigError(
                f"'{path}' is not a run's configuration ({error}). Copy adapter/ elsewhere and give --data with it."
            ) from None

    def task(self) -> Task:
        """What the adapter was trained for. Raises ConfigError where it cannot be read."""
        config = read_adapter(self.adapter).config
        return build_task(config.task, config.classes)

    def personal_of_adapter(self) -> tuple[str, ...]:
        """What the adapter does not hold. Raises ConfigError where it cannot be read."""
        config = read_adapter(self.adapter).config
        return stays_at_sites(config.method, config.personal)

    def knowledge_lacking(self, config: RunConfig) -> str:
        """The knowledge that the adapter was trained with, where ``config`` names none or another; else empty.

        Raises:
            ConfigError: the adapter cannot be read.
        """
        trained = read_adapter(self.adapter).config.knowledge
        return "" if trained == without_path(config.knowledge) else trained

    def kept(self, site: str, kind: Kept) -> dict[str, torch.Tensor]:
        """What stayed at ``site`` by name of the parameter; empty where nothing of this kind is here."""
        path = self.directory / "sites" / f"{site}.safetensors" if self.directory else None
        if path is None or not path.is_file():
            return {}
        try:
            kept = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"'{path}' cannot be read ({error}). Evaluate the shared model.") from None
        prefix = f"{kind}/"
        return {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}

    def partition_spec(self) -> str | None:
        """The partition that was saved with the run, as configuration; None where there is none."""
        path = self.directory / PARTITION_FILE if self.directory else None
        return f"file(path='{path}')" if path and path.is_file() else None

    def check_data(self) -> None:
        """Refuse to evaluate on the data of a run whose data never left its sites. Raises ConfigError."""
        if self.directory is not None and data_of_run(self._content()) == EACH_ITS_OWN:
            raise ConfigError(
                f"'{self.directory}' was trained at sites with data of their own, which is not here. Say what to "
                "evaluate on: --data 'folder(path=...)'."
            )

    def check_partition(self, partition: PartitionManifest) -> None:
        """Refuse a partition that is not the run's: its test images may be ones that the run was trained on.

        Raises:
            ConfigError: it has another hash than the one that the run recorded.
        """
        content = self._content() if self.directory else {}
        recorded = content.get("federation", {}).get("partition-hash", "")
        if recorded and partition.hash() != recorded:
            raise ConfigError(
                f"The data divides otherwise than in the run ({partition.hash()[:12]} now, {recorded[:12]} then): "
                "images that were trained on could count as test images. Use the data and version of the run, or say "
                "what to evaluate on with --data and --partition."
            )

    def _content(self) -> dict[str, Any]:
        assert self.directory is not None
        return tomllib.loads((self.directory / "config.toml").read_text(encoding="utf-8"))
