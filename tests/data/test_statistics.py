import numpy as np
import pytest
import torch

from segdistill.data.camvid import camvid
from segdistill.data.files import FileSet, Pair
from segdistill.data.statistics import class_statistics
from segdistill.data.synthetic import SyntheticStreets
from segdistill.errors import UserError
from tests.data.layouts import camvid_root, labels, photo


def small(tmp_path):
    masks = [labels(tmp_path / "0.png", [0, 0, 1, 255]), labels(tmp_path / "1.png", [0])]
    return FileSet([Pair(str(i), photo(tmp_path / f"p{i}.png"), mask) for i, mask in enumerate(masks)])


def test_counts(tmp_path):
    statistics = class_statistics(small(tmp_path), 3, cache=None)
    assert statistics.pixels.tolist() == [[24, 12, 0], [48, 0, 0]]
    assert statistics.pixels.dtype == torch.int64
    assert statistics.frequencies.tolist() == pytest.approx([72 / 84, 12 / 84, 0])
    assert statistics.frequencies.dtype == torch.float64
    assert statistics.image_counts.tolist() == [2, 1, 0]


def test_computed_once(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    root = str(camvid_root(tmp_path / "set"))
    first = class_statistics(camvid(root, "train"), 11, cache)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    monkeypatch.setattr(FileSet, "mask", lambda self, index: pytest.fail("decoded again"))
    assert torch.equal(class_statistics(camvid(root, "train"), 11, cache).pixels, first.pixels)


def test_counted_again_after_a_change_or_damage(tmp_path):
    cache = tmp_path / "cache"
    dataset = small(tmp_path)
    first = class_statistics(dataset, 3, cache)
    stored = next(cache.iterdir())
    stored.write_bytes(stored.read_bytes()[:40])
    assert torch.equal(class_statistics(dataset, 3, cache).pixels, first.pixels)
    labels(tmp_path / "1.png", np.arange(48) % 3)
    assert class_statistics(dataset, 3, cache).pixels[1].tolist() == [16, 16, 16]
    assert len(list(cache.iterdir())) == 2


def test_a_drawn_set_is_cached_by_its_own_fingerprint(tmp_path):
    for seed in (0, 1, 0):
        class_statistics(SyntheticStreets("val", num_images={"val": 2}, seed=seed), 9, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_label_beyond_the_classes_is_named(tmp_path):
    with pytest.raises(UserError, match=r"0: label 1 is outside the allowed range 0..0"):
        class_statistics(small(tmp_path), 1, cache=None)


def test_unlabelled_images_have_no_shares(tmp_path):
    dataset = FileSet([Pair("p", photo(tmp_path / "p.png"), None)])
    assert class_statistics(dataset, 2, cache=None).frequencies.tolist() == [0, 0]
