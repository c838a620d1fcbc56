"""Every kind of image becomes upright 8-bit RGB, or is refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segdistill.data.files import FileSet, Pair
from segdistill.errors import UserError
from segdistill.predict.images import decoded

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
ORIENTATION = 0x0112


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(size, bits: int, content: bytes) -> bytes:
    """An RGB PNG by hand: Pillow writes none of 16 bits, and none that lies about its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_is_read_exactly(kind):
    assert np.array_equal(decoded(encoded(Image.fromarray(RGB), kind)).pixels, RGB)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "JPEG2000", "AVIF", "GIF"])
def test_other_kinds_are_read(kind):
    smooth = Image.fromarray(np.full((16, 16, 3), (200, 100, 40), np.uint8))
    found = decoded(encoded(smooth, kind)).pixels
    assert found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - (200, 100, 40)).max() < 12


def test_grey_bits_and_palettes():
    grey = Image.fromarray(RGB[..., 0])
    assert np.array_equal(decoded(encoded(grey)).pixels, np.repeat(RGB[..., :1], 3, axis=2))
    bits = grey.point(lambda v: 255 * (v > 127), "1")
    assert np.array_equal(decoded(encoded(bits)).pixels[..., 0], 255 * (RGB[..., 0] > 127))
    palette = Image.fromarray(RGB).quantize(8)
    assert np.array_equal(decoded(encoded(palette)).pixels, np.asarray(palette.convert("RGB")))


def test_sixteen_bits_keep_their_upper_eight():
    wide = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    assert np.array_equal(decoded(encoded(Image.fromarray(wide))).pixels[..., 1], wide >> 8)
    rgb = np.stack([wide, wide[::-1], wide + 300], axis=-1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    assert np.array_equal(decoded(png((9, 6), 16, rows)).pixels, rgb >> 8)


def test_alpha_is_dropped_and_cmyk_converted():
    clear = Image.fromarray(np.dstack([RGB, np.zeros((6, 9), np.uint8)]))
    assert np.array_equal(decoded(encoded(clear)).pixels, RGB)
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decoded(encoded(ink, "JPEG")).pixels[4, 4].astype(int)
    assert red[0] > 240
    assert max(red[1:]) < 15


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_camera_s_rotation_is_applied(turn):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[turn]
    content = encoded(Image.fromarray(RGB), exif=exif)
    assert np.array_equal(decoded(content).pixels, upright)
    with Image.open(io.BytesIO(content)) as opened:
        assert np.array_equal(decoded(opened).pixels, upright)


def test_animations_give_their_first_frame():
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    found = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.animated
    assert (found.pixels == 10).all()
    assert not decoded(encoded(frames[0], "GIF")).animated


def test_files_paths_and_arrays_give_the_same(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    for source in (path, str(path), path.read_bytes(), Image.fromarray(RGB), RGB):
        assert np.array_equal(decoded(source).pixels, RGB)
    trained_on = FileSet([Pair("x", path, None)]).image(0)
    assert np.array_equal(trained_on.permute(1, 2, 0).numpy(), RGB)


@pytest.mark.parametrize("size", [(100, 101), (30000, 30000), (60000, 60000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(size):
    with pytest.raises(UserError, match=r"more than (max_pixels=10000|178 million pixels)"):
        decoded(png(size, 8, b"\0"), 10_000)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
        encoded(Image.fromarray(RGB))[:60],
        encoded(Image.fromarray(RGB), "JPEG")[:400],
        encoded(Image.fromarray(RGB), "BMP")[:100],
        encoded(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(content):
    with pytest.raises(UserError) as caught:
        decoded(content)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow's TIFF reader
def test_damage_is_always_a_user_error():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    rng = np.random.default_rng(1)
    for kind, options in (("JPEG", {"exif": exif}), ("PNG", {}), ("GIF", {}), ("TIFF", {}), ("WEBP", {})):
        whole = np.frombuffer(encoded(Image.fromarray(RGB), kind, **options), np.uint8)
        for _ in range(25):
            damaged = whole.copy()
            damaged[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
            try:
                decoded(damaged.tobytes())
            except UserError:
                continue


@pytest.mark.parametrize(
    "wrong",
    [RGB[..., 0], RGB.astype(np.float32), RGB[..., :2], np.zeros((0, 4, 3), np.uint8), np.zeros((3, 6, 9), np.uint8)],
)
def test_arrays_of_another_kind(wrong):
    with pytest.raises(UserError, match=r"must be \(H, W, 3\) uint8 RGB"):
        decoded(wrong)


def test_names_with_signs_that_steer_a_terminal_are_quoted(tmp_path):
    with pytest.raises(UserError) as caught:
        decoded(tmp_path / "a\x1b[2J.png")
    assert "\x1b" not in str(caught.value)
