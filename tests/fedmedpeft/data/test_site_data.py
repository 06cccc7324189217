from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedmedpeft.components import ConfigError
from fedmedpeft.data.decode import MISSING
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import PartitionManifest, make_partition
from fedmedpeft.data.site_data import SiteData, load_site, pool
from fedmedpeft.data.source import build_source


def split_up(source: Any, spec: str = "iid", sites: int = 2, val: float = 0.2, minimum: int = 0) -> PartitionManifest:
    return make_partition(
        source, spec, sites=sites, seed=0, val_fraction=val, test_fraction=0.2, min_train_per_site=minimum
    )


def load(source: Any, manifest: PartitionManifest, site: str = "site-0", size: int = 4) -> SiteData:
    return load_site(source, manifest, site, image_size=size, interpolation="bilinear")


def test_tensors_hold_the_rows_of_the_manifest_in_order(plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3)
    manifest = split_up(source)
    site = load(source, manifest, "site-1")
    for name in ("train", "val", "test"):
        split = getattr(site, name)
        assert split.rows.tolist() == manifest.rows("site-1", name).tolist()
        assert split.images.shape == (len(split), 3, 4, 4)
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert split.images[:, 0, 0, 0].tolist() == split.rows.tolist()  # red is the row number
        assert split.images[:, 2, 3, 3].tolist() == [200] * len(split)
        assert split.labels.tolist() == source.table.labels[split.rows].tolist()
    assert site.classes == ("a", "b", "c")
    assert (site.skipped, site.notes, site.details) == ({}, (), ())


def test_the_middle_of_the_long_side_is_kept_and_nothing_is_squeezed(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255  # a white square in the middle third
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.fromarray(wide if name == "a" else wide.transpose(1, 0, 2)).save(tmp_path / name / f"{index}.png")
    source = build_source(f"folder(path={tmp_path})")
    site = load(source, split_up(source, sites=1), size=10)
    assert site.train.images.min() == 255


def test_an_unreadable_image_is_left_out_and_counted_without_its_name(plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3)
    manifest = split_up(source)
    broken = [*manifest.rows("site-0", "train")[[0, 5]], manifest.rows("site-0", "test")[1]]
    source = plain_source(60, 3, broken=broken)
    site = load(source, manifest)
    assert site.skipped == {MISSING: 3}
    assert not set(broken) & {*site.train.rows, *site.test.rows}
    assert site.train.images[:, 0, 0, 0].tolist() == site.train.rows.tolist()
    assert len(site.details) == 3
    assert "patient-7" in site.details[0]
    assert "patient-7" not in repr(site)
    assert load(source, manifest, "site-1").skipped == {}


def test_real_damage_in_a_folder_is_skipped_by_kind(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        for index in range(6):
            write_image(f"{name}/{index}.png")
    (tmp_path / "a" / "0.png").write_bytes((tmp_path / "a" / "0.png").read_bytes()[:40])
    Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)).save(tmp_path / "b" / "x.tif")
    source = build_source(f"folder(path={tmp_path})")
    (tmp_path / "b" / "1.png").unlink()
    site = load(source, split_up(source, sites=1, val=0.0))
    assert sorted(site.skipped.values()) == [1, 1, 1]
    assert len(site.train) + len(site.test) == 10


def test_nothing_to_train_on_is_an_error_that_may_be_told(plain_source: Callable[..., Any]) -> None:
    source = plain_source(10, 2, broken=range(10))
    with pytest.raises(DataError, match=r"no readable training image out of \d.*patient-7") as caught:
        load(source, split_up(source))
    assert "patient-7" not in caught.value.public


def test_an_empty_site_is_an_error(plain_source: Callable[..., Any]) -> None:
    source = plain_source(30, 2)
    manifest = split_up(source, "quantity(alpha=0.001)", sites=3)
    empty = manifest.sites[int(manifest.counts().sum(axis=(1, 2)).argmin())]
    with pytest.raises(DataError, match="no readable training image out of 0"):
        load(source, manifest, empty)


def test_a_site_of_one_class_is_loaded_with_a_note(plain_source: Callable[..., Any]) -> None:
    source = plain_source(40, 2)
    manifest = split_up(source, "pathological(classes_per_site=1)", val=0.0)
    assert load(source, manifest).notes == ("The site trains on one class only.", "The site has no val images.")


def test_a_partition_of_other_data_is_refused(plain_source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="made for other data"):
        load(plain_source(41, 2), split_up(plain_source(40, 2)))


def test_wrong_arguments_are_named(plain_source: Callable[..., Any]) -> None:
    source = plain_source(40, 2)
    manifest = split_up(source)
    with pytest.raises(ConfigError, match="Did you mean 'bicubic'"):
        load_site(source, manifest, "site-0", image_size=4, interpolation="bicubc")
    with pytest.raises(ConfigError, match="image_size=0"):
        load_site(source, manifest, "site-0", image_size=0, interpolation="bicubic")
    with pytest.raises(DataError, match="no site 'site-7'"):
        load(source, manifest, "site-7")


def test_a_device_changes_its_site_and_the_noise_of_an_image_is_its_own(plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3)
    plain, shifted = split_up(source, "iid"), split_up(source, "feature-shift(strength=1)")
    assert np.array_equal(plain.site_of, shifted.site_of)
    first, again = load(source, shifted), load(source, shifted)
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, load(source, plain).train.images)
    fewer = load(plain_source(60, 3, broken=[int(first.train.rows[0])]), shifted)
    assert torch.equal(fewer.train.images, first.train.images[1:])


def test_pooling_joins_all_and_adds_up_what_was_skipped(plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3, broken=range(60)[::7])
    manifest = split_up(source, sites=3)
    sites = [load(source, manifest, site) for site in manifest.sites]
    together = pool(sites)
    assert together.site == "pooled"
    assert together.skipped == {MISSING: 9}
    rows = np.concatenate([together.train.rows, together.val.rows, together.test.rows])
    assert sorted(rows.tolist()) == [row for row in range(60) if row % 7]
    assert together.train.images[:, 0, 0, 0].tolist() == together.train.rows.tolist()
    assert together.train.labels.tolist() == source.table.labels[together.train.rows].tolist()


def test_sites_that_do_not_fit_are_not_pooled(plain_source: Callable[..., Any]) -> None:
    three, two = plain_source(40, 3), plain_source(40, 2)
    site = load(three, split_up(three))
    for other in (load(two, split_up(two)), load(three, split_up(three), size=5)):
        with pytest.raises(DataError, match="cannot be pooled"):
            pool([site, other])
    with pytest.raises(DataError, match="no sites"):
        pool([])


def test_the_blood_cells_of_four_laboratories(shared_data: Path) -> None:
    table = shared_data / "blood_cells_multisite" / "labels.csv"
    source = build_source(f"manifest(path={table}, classes='neutrophil,lymphocyte,monocyte,eosinophil')")
    manifest = split_up(source, "natural", sites=4, minimum=50)
    assert manifest.sites == ("barcelona_clinic_cellavision_dm96", "bccd", "cellavision_blog", "jiangxi_tecom")
    assert manifest.counts().sum(axis=(1, 2)).tolist() == [800, 339, 97, 299]
    site = load(source, manifest, "cellavision_blog", size=32)
    assert site.skipped == {}
    assert len(site.train) + len(site.val) + len(site.test) == 97
    assert site.train.images.float().std() > 20
