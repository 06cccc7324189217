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
from fedmedpeft.data.site_data import SHARED_IMAGES, load_site, pool
from fedmedpeft.data.source import build_source
from fedmedpeft.data.text_reader import TextReader
from tests.fedmedpeft.data.loaded import load, split_up
from tests.fedmedpeft.data.words import Words


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
    assert load(source, manifest).notes == ("The site trains on one class only.", "The site has no val data.")


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


def questions(plain_source: Callable[..., Any], broken: tuple[int, ...] = (), **changes: Any) -> Any:
    """60 questions about 20 images: rows 0, 20 and 40 show image 0, and so on."""
    columns: dict[str, Any] = {
        "images": tuple(f"i{row % 20}" for row in range(60)),
        "texts": tuple(f"what is {row}" + " really" * (row == 59) for row in range(60)),
        "answers": tuple(f"answer {row}" for row in range(60)),
        "answer_types": ("open", "closed") * 30,
    }
    return plain_source(60, 3, broken, **(columns | changes))


def test_an_image_is_decoded_once_for_all_questions_about_it(plain_source: Callable[..., Any]) -> None:
    source = questions(plain_source)
    asked: list[int] = []
    original = source.image
    source.image = lambda row: asked.append(row) or original(row)
    site = load(source, split_up(source))
    assert len(asked) == len(set(asked)) == sum(len(split.images) for split in (site.train, site.val, site.test))
    for split in (site.train, site.val, site.test):
        assert len(split) == 3 * len(split.images)
        assert split.batch(torch.arange(len(split)))[0][:, 0, 0, 0].tolist() == (split.rows % 20).tolist()
        assert split.labels.tolist() == source.table.labels[split.rows].tolist()
        for column, values in (("texts", split.questions), ("answers", split.answers)):
            assert values == tuple(getattr(source.table, column)[row] for row in split.rows)
        assert split.answer_types == tuple(source.table.answer_types[row] for row in split.rows)
        assert split.text is None
    assert site.notes == ()


def test_texts_are_read_only_where_someone_asks(plain_source: Callable[..., Any]) -> None:
    source = questions(plain_source)
    manifest = split_up(source)
    words = Words()
    sites = [load_site(source, manifest, name, image_size=4, texts=TextReader(words, 9)) for name in manifest.sites]
    train = sites[0].train
    assert words.seen[0] == list(train.questions or ())
    assert train.text is not None
    assert train.text.ids.shape[0] == len(train)
    together = pool(sites)
    for split in (together.train, together.val, together.test):
        assert split.text is not None
        found, text, _ = split.batch(torch.arange(len(split)))
        assert found[:, 0, 0, 0].tolist() == (split.rows % 20).tolist()
        assert text is not None
        assert text.mask.sum(1).tolist() == [len(question.split()) for question in split.questions or ()]
    assert load_site(plain_source(60, 3), split_up(plain_source(60, 3)), "site-0", image_size=4).train.text is None
    with pytest.raises(DataError, match="Load them alike"):
        pool([sites[0], load(source, manifest, "site-1")])


def test_all_questions_about_a_damaged_image_are_left_out_and_counted(plain_source: Callable[..., Any]) -> None:
    whole = questions(plain_source)
    manifest = split_up(whole)
    lost = int(manifest.rows("site-0", "train")[0])
    site = load(questions(plain_source, broken=(lost,)), manifest)
    assert site.skipped == {MISSING: 3}
    assert len(site.details) == 1
    assert "3 rows" in site.details[0]
    assert lost not in site.train.rows % 20
    before = load(whole, manifest).train
    assert torch.equal(site.train.images, before.images[1:])
    assert site.train.questions == tuple(
        text for text, row in zip(before.questions or (), before.rows, strict=True) if row % 20 != lost
    )


def test_shared_test_images_are_said_at_the_sites_that_have_some_and_in_the_pool(
    plain_source: Callable[..., Any],
) -> None:
    splits = tuple("test" if row == 40 else "train" for row in range(60))  # of image 0 alone
    source = questions(plain_source, splits=splits, splits_share_patients=True)
    manifest = split_up(source, val=0.0)
    sites = [load(source, manifest, name) for name in manifest.sites]
    assert sorted(SHARED_IMAGES in site.notes for site in sites) == [False, True]
    assert SHARED_IMAGES in pool(sites).notes
    for site in sites:
        if SHARED_IMAGES in site.notes:
            assert torch.equal(site.test.images[0], site.train.images[site.train.rows.tolist().index(0)])


def test_a_device_treats_an_image_alike_wherever_it_is_shown(plain_source: Callable[..., Any]) -> None:
    splits = tuple("test" if row >= 40 else "train" for row in range(60))
    source = questions(plain_source, splits=splits, splits_share_patients=True)
    site = load(source, split_up(source, "feature-shift(strength=1)", val=0.0))
    images = site.train.batch(torch.tensor([site.train.rows.tolist().index(row - 40) for row in site.test.rows]))[0]
    assert torch.equal(images, site.test.batch(torch.arange(len(site.test)))[0])


def test_strata_and_captions_are_no_classes_to_lack(plain_source: Callable[..., Any]) -> None:
    captions = plain_source(30, 1, texts=("a caption",) * 30)
    assert load(captions, split_up(captions)).notes == ()
    source = questions(plain_source, images=None)
    manifest = split_up(source, "pathological(classes_per_site=1)", sites=3)
    assert len(set(load(source, manifest).train.labels.tolist())) == 1
    assert load(source, manifest).notes == ()


def test_the_questions_of_three_organs(shared_data: Path) -> None:
    source = build_source(f"vqa-rad(path={shared_data / 'vqa_rad'})")
    manifest = split_up(source, "natural", sites=3, minimum=50)
    sites = [load(source, manifest, name, size=16) for name in manifest.sites]
    assert [site.site for site in sites] == ["ABD", "CHEST", "HEAD"]
    assert [len(site.train) + len(site.val) for site in sites] == [999, 1088, 977]
    assert [len(site.test) for site in sites] == [158, 174, 119]
    assert all(SHARED_IMAGES in site.notes and site.skipped == {} for site in sites)
    together = pool(sites)
    assert len(together.train.images) + len(together.val.images) == 314
    assert len(together.test.images) == 203
