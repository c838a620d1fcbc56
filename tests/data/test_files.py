import numpy as np
import pytest
import torch
from PIL import Image

from segdistill.data.files import FileSet, Pair
from segdistill.errors import UserError
from tests.data.layouts import SIZE, labels, photo


def make(image, mask, **options):
    return FileSet([Pair("one", image, mask, "drive")], **options)


PNG_MODES = ["RGB", "RGBA", "L", "LA", "P", "1"]


@pytest.mark.parametrize(
    ("mode", "suffix"), [(mode, suffix) for suffix in (".png", ".tif") for mode in PNG_MODES] + [("CMYK", ".tif")]
)
def test_any_image_becomes_rgb(tmp_path, mode, suffix):
    source = Image.fromarray(np.full((*SIZE, 3), 255, dtype=np.uint8)).convert(mode)
    source.save(tmp_path / f"i{suffix}")
    image = make(tmp_path / f"i{suffix}", None).image(0)
    assert image.shape == (3, *SIZE)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert image.eq(255).all()


def test_sixteen_bit_grey_keeps_its_tones(tmp_path):
    Image.fromarray(np.full(SIZE, 0x8012, dtype=np.uint16)).save(tmp_path / "i.png")
    assert make(tmp_path / "i.png", None).image(0).eq(0x80).all()


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_masks_are_the_stored_indices(tmp_path, mode):
    dataset = make(photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [0, 3, 255], mode), num_classes=4)
    mask = dataset.mask(0)
    assert mask.dtype == torch.uint8
    assert mask.flatten()[:4].tolist() == [0, 3, 255, 0]
    assert dataset.size(0) == SIZE


def test_sixteen_bit_labels_are_remapped_and_the_rest_is_ignored(tmp_path):
    mask = labels(tmp_path / "m.png", [1000, 7, 2], "I;16")
    dataset = make(photo(tmp_path / "i.png"), mask, remap={1000: 1, 7: 0}, num_classes=2)
    assert dataset.mask(0).flatten()[:3].tolist() == [1, 0, 255]


def test_no_mask_is_all_ignore(tmp_path):
    mask = make(photo(tmp_path / "i.png"), None).mask(0)
    assert mask.shape == SIZE
    assert mask.eq(255).all()


def test_exif_rotation_is_not_applied_but_named(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "i.jpg", exif=exif)
    dataset = make(tmp_path / "i.jpg", labels(tmp_path / "m.png", [0], size=(8, 6)))
    assert dataset.image(0).shape == (3, 6, 8)
    with pytest.raises(UserError, match="EXIF rotation"):
        dataset.mask(0)


def test_color_masks(tmp_path):
    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = (10, 20, 30), (200, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    image = photo(tmp_path / "i.png")
    colors = {(10, 20, 30): 0, (200, 0, 0): 1, (0, 0, 0): 255}
    assert make(image, tmp_path / "m.png", num_classes=2, colors=colors).mask(0).flatten()[:3].tolist() == [0, 1, 255]
    with pytest.raises(UserError, match=r"m.png: 1 colours are not in the palette, e.g. \[200, 0, 0\].*void_colors"):
        make(image, tmp_path / "m.png", colors={(10, 20, 30): 0, (0, 0, 0): 255}).mask(0)
    with pytest.raises(UserError, match=r"m.png: a colour image where class indices.*dataset=folder"):
        make(image, tmp_path / "m.png").mask(0)


def test_label_out_of_range_names_file_value_and_range(tmp_path):
    dataset = make(photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [0, 3, 9]), num_classes=3)
    with pytest.raises(UserError, match=r"m.png: label 3, 9 is outside the allowed range 0..2 .*remap"):
        dataset.mask(0)


def test_size_mismatch(tmp_path):
    dataset = make(photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [0], size=(5, 5)))
    with pytest.raises(UserError, match=r"m.png: 5x5, but its image .*i.png is 6x8: make both the same size"):
        dataset.mask(0)


def test_unreadable_files(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    whole = photo(tmp_path / "i.png", size=(64, 64))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:3000])
    for name, reason in (("text.png", "cannot identify"), ("gone.png", "no such file"), ("cut.png", "cannot be read")):
        with pytest.raises(UserError, match=rf"{name}: cannot be read .*replace the file") as caught:
            make(tmp_path / name, None).image(0)
        assert reason in str(caught.value)
    with pytest.raises(UserError, match=r"gone.png: cannot be read \(no such file\)"):
        make(whole, tmp_path / "gone.png").mask(0)
    with pytest.raises(UserError, match=r"gone.png: cannot be read"):
        make(tmp_path / "gone.png", None).size(0)


def test_float_pixels_and_strange_masks_are_refused(tmp_path):
    Image.fromarray(np.zeros(SIZE, dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match="floating-point"):
        make(tmp_path / "f.tif", None).image(0)
    with pytest.raises(UserError, match="a mask of mode F"):
        make(photo(tmp_path / "i.png"), tmp_path / "f.tif").mask(0)


def test_remap_is_checked(tmp_path):
    with pytest.raises(UserError, match=r"remap 1: 7.*0..2 or 255"):
        FileSet([], remap={1: 7}, num_classes=3)


def test_fingerprint_follows_files_and_rules(tmp_path):
    image, mask = photo(tmp_path / "i.png"), labels(tmp_path / "m.png", [0])
    first = make(image, mask).fingerprint()
    assert make(image, mask).fingerprint() == first
    assert make(image, mask, num_classes=5).fingerprint() != first
    labels(mask, np.arange(48) % 7)
    assert make(image, mask).fingerprint() != first
