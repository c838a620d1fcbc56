import io
import json

import pytest
from rich.console import Console

from segdistill.data.camvid import camvid
from segdistill.data.check import check_dataset
from segdistill.data.check_table import render
from segdistill.data.files import FileSet, Pair
from tests.data.layouts import camvid_root, labels, photo

CLASSES = [f"c{i}" for i in range(11)]


def sets_of(root):
    return {split: camvid(str(root), split) for split in ("train", "val", "test")}


def test_a_sound_set(tmp_path):
    report = check_dataset(sets_of(camvid_root(tmp_path)), CLASSES)
    assert report.errors == []
    assert report.splits["train"].images == 2
    assert report.splits["train"].sizes == {"6x8": 2}
    assert report.splits["train"].ignored == pytest.approx(1 / 12)
    assert report.rows[0].share == pytest.approx(1 / 11)
    assert report.rows[0].images == 2


def test_moments_match_the_pixels(tmp_path):
    sets = sets_of(camvid_root(tmp_path))
    report = check_dataset({"val": sets["val"]}, CLASSES)
    image = sets["val"].image(0).double() / 255
    assert report.splits["val"].mean == pytest.approx(image.mean((1, 2)).tolist())
    assert report.splits["val"].std == pytest.approx(image.std((1, 2), correction=0).tolist())


def test_every_fault_is_listed_and_the_scan_goes_on(tmp_path):
    camvid_root(tmp_path)
    (tmp_path / "train" / "0016E5_1.png").write_text("broken")
    labels(tmp_path / "valannot" / "0016E5_9.png", [77])
    labels(tmp_path / "testannot" / "Seq05VD_3.png", [0], size=(3, 3))
    report = check_dataset(sets_of(tmp_path), CLASSES)
    joined = "\n".join(report.errors)
    assert len(report.errors) == 3
    assert "train: " in joined
    assert "cannot be read" in joined
    assert "label 77" in joined
    assert "3x3" in joined
    assert report.splits["train"].images == 1
    assert report.splits["val"].mean is None


def test_leaks_and_absent_classes_are_warnings(tmp_path):
    camvid_root(tmp_path)
    photo(tmp_path / "val" / "0016E5_9.png", seed=5)
    for file in tmp_path.glob("*annot/*"):
        labels(file, [0, 1])
    report = check_dataset(sets_of(tmp_path), CLASSES)
    joined = "\n".join(report.warnings)
    assert "train and val share 1 images of the same content" in joined
    assert "train: 9 of 11 classes never occur" in joined
    assert "no split holds any pixel of: c2, c3" in joined


def test_json_has_null_and_no_nan(tmp_path):
    empty = FileSet([])
    unlabelled = FileSet([Pair("p", photo(tmp_path / "p.png"), None)])
    report = check_dataset({"train": empty, "test": unlabelled}, ["a", "b"])
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["errors"] == ["train: no images"]
    assert document["splits"]["train"]["mean"] is None
    assert document["splits"]["test"]["ignored"] == 1.0
    assert {row["share"] for row in document["rows"]} == {None}
    assert "no pixel is labelled" in document["warnings"][0]


def test_render(tmp_path):
    (camvid_root(tmp_path) / "train" / "0016E5_1.png").write_text("broken")
    console = Console(file=io.StringIO(), width=120)
    render(check_dataset(sets_of(tmp_path), CLASSES), console)
    text = console.file.getvalue()
    assert "9.09 (1)" in text
    assert "0016E5_1.png: cannot be read" in text
    assert "No errors" not in text
