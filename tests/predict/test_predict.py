"""``segdistill predict`` on folders, single images and stdin."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import segdistill
from segdistill import cli
from segdistill.predict import stills
from tests import bundles
from tests.card.exported import write_onnx
from tests.predict.running import predict, typed

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.write(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder with two images and one in a folder inside; the current folder is its parent."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    (folder / "drive" / "a").mkdir(parents=True)
    for name, size in (("one.png", (20, 31)), ("two.jpg", (24, 24)), ("drive/a/three.png", (9, 40))):
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_folder(bundle, images):
    assert "has no key 'inptu'" in typed(f"run={bundle}", "inptu=images").err
    ended = typed(f"run={bundle}", "input=images")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("3 images -> predictions; ")
    predictor = segdistill.load(bundle)
    table = rows(images.parent / "predictions" / "shares.csv")
    assert table[0] == ["image", *bundles.CONTENT["classes"]]
    assert [row[0] for row in table[1:]] == ["drive/a/three.png", "one.png", "two.jpg"]
    for row in table[1:]:
        expected = predictor(images / row[0])
        stem = row[0].rsplit(".", 1)[0]
        with Image.open(images.parent / "predictions" / "masks" / f"{stem}.png") as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), expected)
            assert np.array_equal(np.asarray(mask.convert("RGB")), predictor.colour(expected))
        with Image.open(images.parent / "predictions" / "overlays" / f"{stem}.jpg") as overlay:
            assert overlay.size == expected.shape[::-1]
        shares = np.bincount(expected.ravel(), minlength=5) / expected.size
        assert np.allclose([float(cell) for cell in row[1:]], shares, atol=1e-6)
    assert not list(images.parent.rglob(".*"))


def test_an_exported_file_needs_neither_torch_nor_lightning(images):
    write_onnx(images.parent / "tiny.onnx", size=None)
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'pytorch_lightning', 'onnx')))\n"
        "from segdistill.cli import main; main()"
    )
    arguments = [sys.executable, "-c", script, "predict", "file=tiny.onnx", "input=images/one.png"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(images.parent / "predictions" / "masks" / "one.png") as mask:
        assert np.array_equal(np.asarray(mask), segdistill.load("tiny.onnx")("images/one.png"))


def test_what_is_written_can_be_chosen(bundle, images):
    ended = predict(f"run={bundle}", "input=images/one.png", "out=o", "write=[overlay]", "overlay=png", "alpha=0")
    assert ended.code == 0, ended.err
    assert [path.name for path in images.parent.glob("o/**/*") if path.is_file()] == ["one.png"]
    with Image.open(images.parent / "o" / "overlays" / "one.png") as overlay, Image.open(images / "one.png") as image:
        assert np.array_equal(np.asarray(overlay), np.asarray(image))


def test_outputs_are_never_replaced_unasked(bundle, images):
    assert predict(f"run={bundle}", "input=images", "out=o").code == 0
    before = (images.parent / "o" / "shares.csv").stat().st_mtime_ns
    again = predict(f"run={bundle}", "input=images/one.png", "out=o", "write=mask")
    assert again.code == 2
    assert again.err.startswith(
        "error: o/masks/one.png is there already; give another folder, out=DIR, or replace=true"
    )
    many = predict(f"run={bundle}", "input=images", "out=o")
    assert "and 6 more outputs are there already" in many.err
    assert (images.parent / "o" / "shares.csv").stat().st_mtime_ns == before
    assert predict(f"run={bundle}", "input=images", "out=o", "replace=true").code == 0
    file = predict(f"run={bundle}", "input=images", "out=images/one.png")
    assert (file.code, file.err) == (
        2,
        "error: images/one.png is there already and is no folder; give another, out=DIR\n",
    )


def test_bad_files_are_named_and_the_others_done(bundle, images):
    (images / "cut.jpg").write_bytes((images / "two.jpg").read_bytes()[:300])
    (images / "text.png").write_text("hello")
    Image.new("L", (200, 200)).save(images / "wide.png")
    Image.new("L", (1, 1)).save(images / "dot.png")
    Image.new("L", (8, 8)).save(images / "film.gif", save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    (images / "notes.txt").write_text("no image")
    (images / "link.png").symlink_to("gone.png")
    (images / "loop.png").symlink_to("loop.png")
    ended = predict(f"run={bundle}", "input=images", "max_pixels=10000", "output=json")
    assert ended.code == 2
    told = json.loads(ended.out)
    assert told["images"] == 5
    assert [one["input"] for one in told["failed"]] == ["cut.jpg", "link.png", "loop.png", "text.png", "wide.png"]
    assert sum(told["shares"].values()) == pytest.approx(1, abs=1e-5)
    failed = [line for line in ended.err.splitlines() if line.startswith("failed: ")]
    assert [
        name in line
        for name, line in zip(
            ("cut.jpg", "link.png: cannot be read (no such file)", "loop.png", "text.png", "wide.png"),
            failed,
            strict=True,
        )
    ] == [True] * 5
    assert "film.gif: an animation; its first frame was taken" in ended.err
    assert len(rows(images.parent / "predictions" / "shares.csv")) == 6


def test_where_all_fails_nothing_is_left_behind(bundle, images):
    (images / "one.png").write_text("hello")
    failing = [f"run={bundle}", "input=images/one.png", "out=o"]
    assert [predict(*failing).code for _ in range(2)] == [2, 2]
    assert not (images.parent / "o").exists()


def test_an_image_and_a_folder_whose_outputs_have_one_name(bundle, images):
    (images / "two.png").mkdir()
    Image.new("L", (8, 8)).save(images / "two.png" / "inside.png")
    ended = predict(f"run={bundle}", "input=images")
    assert ended.code == 2
    assert ended.err.startswith("error: predictions/masks/two.png would be the output of one image and the folder of")


def test_a_fault_of_ours_is_told_apart(bundle, images, monkeypatch):
    def broken(source, most):
        if source.name == "one.png":
            raise RuntimeError("out of luck\nand more")
        return genuine(source, most)

    genuine = stills.decoded
    monkeypatch.setattr(stills, "decoded", broken)
    ended = predict(f"run={bundle}", "input=images")
    assert ended.code == 1
    assert "failed: one.png: RuntimeError: out of luck and more" in ended.err
    assert ended.out.startswith("2 images -> predictions, 1 failed; ")


def test_two_images_of_one_name_and_outputs_inside_the_input(bundle, images):
    Image.new("RGB", (9, 9)).save(images / "one.bmp")
    assert predict(f"run={bundle}", "input=images", "out=images/out").code == 0
    masks = {path.name for path in (images / "out" / "masks").iterdir()}
    assert masks == {"one.bmp.png", "one.png.png", "two.png", "drive"}
    again = predict(f"run={bundle}", "input=images", "out=images/out", "replace=true")
    assert again.out.startswith("4 images")


def test_stdin_and_stdout(bundle, images, monkeypatch, capfdbinary):
    content = (images / "one.png").read_bytes()
    expected = segdistill.load(bundle)(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert cli.VERBS["predict"]([f"run={bundle}", "input=-", "out=-", "threads=1"]) == 0
    written = capfdbinary.readouterr()
    with Image.open(io.BytesIO(written.out)) as mask:
        assert np.array_equal(np.asarray(mask), expected)
    assert written.err.startswith(b"1 images -> -")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert predict(f"run={bundle}", "input=-").code == 0
    assert (images.parent / "predictions" / "masks" / "stdin.png").exists()


def test_an_interrupt_keeps_what_is_whole(bundle, images, monkeypatch):
    genuine, seen = stills.decoded, []

    def interrupting(source, most):
        seen.append(source.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return genuine(source, most)

    monkeypatch.setattr(stills, "decoded", interrupting)
    ended = predict(f"run={bundle}", "input=images", "workers=1")
    assert ended.code == 130
    done = [row[0] for row in rows(images.parent / "predictions" / "shares.csv")[1:]]
    masks = sorted(path.name for path in (images.parent / "predictions" / "masks").rglob("*.png"))
    assert "drive/a/three.png" in done
    assert len(masks) == len(done)
    assert not list(images.parent.rglob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=images"], "give one of run=DIR"),
        (["run=a", "file=b", "input=images"], "give one of run=DIR"),
        (["run=BUNDLE"], "input must be given"),
        (["run=BUNDLE", "input=images", "write=[masks]"], r"must be some of \[mask, overlay, shares\]"),
        (["run=BUNDLE", "input=images", "write=[]"], "must be some of"),
        (["run=BUNDLE", "input=images", "write=masks"], r"write=\['masks'\]: must be some of"),
        (["run=BUNDLE", "input=images", "device=meta"], "device=meta: must be cpu, cuda or cuda:N"),
        (["run=BUNDLE", "input=images", "overlay=gif"], "must be jpg or png"),
        (["run=BUNDLE", "input=images", "alpha=2"], "must be from 0"),
        (["run=BUNDLE", "input=images", "output=xml"], "must be text or json"),
        (["run=BUNDLE", "input=images", "threads=0"], "must be a whole number above 0"),
        (["run=BUNDLE", "input=images", "out=-"], "writes the mask of one image"),
        (["run=BUNDLE", "input=images/one.png", "out=-", "output=json"], "both want stdout"),
        (["run=BUNDLE", "input=images/one.png", "out=-", "write=[overlay]"], "needs out=FOLDER"),
        (["run=BUNDLE", "input=empty"], "holds no images"),
        (["run=images", "input=images"], "holds no bundle"),
    ],
)
def test_mistakes(bundle, images, arguments, message):
    import re

    (images.parent / "empty").mkdir()
    ended = predict(*(one.replace("BUNDLE", str(bundle)) for one in arguments))
    assert ended.code == 2
    assert re.search(message, ended.err), ended.err
    assert not (images.parent / "predictions").exists()
