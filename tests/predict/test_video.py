"""``segdistill predict`` on videos."""

import sys

import numpy as np
import pytest
from PIL import Image

import segdistill
from segdistill.runtimes.opening import open_session
from tests import bundles
from tests.predict.running import predict
from tests.predict.test_predict import rows

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.write(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def film(path, frames=12, size=(32, 48), rate=15, **options):
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, "yuv420p", 4
        for _ in range(frames):
            noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        container.mux(stream.encode())


def frames_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.average_rate, [
            (float(one.time), one.to_ndarray(format="rgb24")) for one in container.decode(stream)
        ]


def test_a_video_keeps_its_rate_and_its_frames(bundle, here):
    film(here / "clip.mp4")
    ended = predict(f"run={bundle}", "input=clip.mp4", "out=o", "alpha=1")
    assert ended.code == 0, ended.err
    (rate, given), (drawn_rate, drawn) = frames_of(here / "clip.mp4"), frames_of(here / "o" / "overlays" / "clip.mp4")
    assert (drawn_rate, len(drawn)) == (rate, len(given)) == (15, 12)
    assert [time for time, _ in drawn] == pytest.approx([time for time, _ in given], abs=1e-3)
    predictor = segdistill.load(bundle)
    colours = [predictor.colour(predictor(pixels)).astype(int) for _, pixels in given]
    errors = [[np.abs(a - b).mean() for b in colours] for _, a in drawn]
    assert [int(np.argmin(row)) for row in errors] == list(range(12))  # each is its own frame's
    table = rows(here / "o" / "shares.csv")
    assert [row[0] for row in table[1:]] == [f"clip.mp4#{number:06}" for number in range(12)]
    assert not (here / "o" / "masks").exists()


def test_masks_of_every_frame(bundle, here):
    film(here / "clip.mkv", frames=3)
    ended = predict(f"run={bundle}", "input=clip.mkv", "write=[mask]")
    assert ended.code == 0, ended.err
    masks = sorted((here / "predictions" / "masks" / "clip").iterdir())
    assert [mask.name for mask in masks] == ["000000.png", "000001.png", "000002.png"]
    pixels = frames_of(here / "clip.mkv")[1][2][1]
    with Image.open(masks[2]) as mask:
        assert np.array_equal(np.asarray(mask), segdistill.load(bundle)(pixels))
    again = predict(f"run={bundle}", "input=clip.mkv", "write=[mask]")
    assert again.err.startswith("error: predictions/masks/clip is there already; ")


@pytest.mark.parametrize("size", [(31, 33), (32, 33)])
def test_sides_that_the_codec_cannot_halve(bundle, here, size):
    rng = np.random.default_rng(0)
    with av.open(str(here / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8), "rgb24")
        container.mux([*stream.encode(frame.reformat(format="bgr0")), *stream.encode()])
    assert predict(f"run={bundle}", "input=clip.mkv").code == 0
    _, ((_, drawn),) = frames_of(here / "predictions" / "overlays" / "clip.mp4")
    assert drawn.shape == (32, 34, 3)


@pytest.mark.parametrize("damage", ["cut", "hole"])
def test_a_broken_video_keeps_what_was_decoded(bundle, here, damage):
    film(here / "whole.mp4", frames=40, options={"movflags": "faststart"})
    whole = (here / "whole.mp4").read_bytes()
    third = len(whole) // 3
    broken = whole[: 2 * third] if damage == "cut" else whole[:third] + b"\x55" * third + whole[2 * third :]
    (here / "clip.mp4").write_bytes(broken)
    ended = predict(f"run={bundle}", "input=clip.mp4")
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if line.startswith("failed: clip.mp4: breaks off after frame ")]
    assert len(lines) == 1
    count = len(frames_of(here / "predictions" / "overlays" / "clip.mp4")[1])
    assert 0 < count < 40
    assert len(rows(here / "predictions" / "shares.csv")) == 1 + count


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_what_is_no_video_and_lists_of_other_files(bundle, here, content):
    film(here / "other.mp4", frames=2)
    (here / "clip.mp4").write_bytes(content)
    ended = predict(f"run={bundle}", "input=clip.mp4")
    assert ended.code == 2
    assert ended.err.startswith("error: clip.mp4: cannot be read as a video (")
    assert not (here / "predictions").exists()


def test_videos_that_are_too_large_or_not_there(bundle, here):
    film(here / "clip.mp4", frames=2)
    assert "are more than max_pixels=100" in predict(f"run={bundle}", "input=clip.mp4", "max_pixels=100").err
    assert "no such file" in predict(f"run={bundle}", "input=none.mp4").err
    assert "goes into a folder, out=DIR" in predict(f"run={bundle}", "input=clip.mp4", "out=-").err
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]


def test_frames_that_grow(bundle, here):
    film(here / "small.ts", frames=3, size=(64, 96))
    film(here / "large.ts", frames=2, size=(128, 192))
    (here / "clip.ts").write_bytes((here / "small.ts").read_bytes() + (here / "large.ts").read_bytes())
    ended = predict(f"run={bundle}", "input=clip.ts", "out=all", "write=[mask,overlay]")
    assert ended.code == 0, ended.err
    sizes = [Image.open(path).size for path in sorted((here / "all" / "masks" / "clip").iterdir())]
    assert sizes == [(96, 64)] * 3 + [(192, 128)] * 2
    assert [pixels.shape for _, pixels in frames_of(here / "all" / "overlays" / "clip.mp4")[1]] == [(64, 96, 3)] * 5
    ended = predict(f"run={bundle}", "input=clip.ts", "max_pixels=10000")
    assert ended.code == 2
    assert "breaks off after frame 3 (frames of 192x128 pixels are more than max_pixels=10000: " in ended.err
    assert len(rows(here / "predictions" / "shares.csv")) == 4


def test_the_extra_is_named_where_pyav_is_missing(bundle, here, monkeypatch):
    film(here / "clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    ended = predict(f"run={bundle}", "input=clip.mp4")
    assert ended.code == 2
    assert "pip install 'segdistill[video]'" in ended.err
    assert open_session(bundle).description.student == "espnet"
