"""The site's data, found from where its site file lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.deployment.own_data import own_source
from clients.deployment.site_run import site_config, site_settings
from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import SiteError

Make = Callable[..., SiteFile]


def test_relative_paths_start_at_the_site_file(site_at: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 77, dtype=np.uint8)).save(folder / "images" / "a.png")
    (folder / "labels.csv").write_text("file,label\na.png,mass\n", encoding="utf-8")
    site = site_at(data={"source": "manifest(path=labels.csv, root=images)", "classes": ["mass", "none"]})
    monkeypatch.chdir("/")
    source = own_source(site)
    assert source.table.classes == ("mass", "none")
    assert int(np.asarray(source.image(0))[0, 0, 0]) == 77


def test_the_run_is_the_servers_and_the_rest_the_sites(site_at: Make, announced: RunConfig) -> None:
    site = site_at(privacy="required(epsilon=4)", policy={"most-norm": 10.0})
    config = site_config(site, announced)
    kept = {"method", "rounds", "local_steps", "batch_size", "seed", "strategy", "min_train_per_site"}
    assert all(getattr(config, name) == getattr(announced, name) for name in kept)
    assert config.max_norm == 10.0
    assert config.data == site.data.source
    assert str(site.folder("ledger")) in config.privacy
    settings = site_settings(site)
    assert settings.options is not None
    assert settings.options.epsilon == 4
    assert settings.options.ledger == str(site.folder("ledger"))


@pytest.mark.parametrize("changes", [{"backbone": "other"}, {"knowledge": "radiology"}])
def test_what_the_site_does_not_have_is_refused(site_at: Make, announced: RunConfig, changes: dict[str, str]) -> None:
    with pytest.raises(SiteError, match="policy"):
        site_config(site_at(), announced.model_copy(update=changes))
