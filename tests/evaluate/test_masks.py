"""Which file is whose mask, what a mask may be, and that all mistakes are told together."""

import numpy as np
import pytest
from PIL import Image

from segdistill.errors import UserError
from segdistill.evaluate.masks import matched, predicted_masks
from tests.tiny import Set

PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.mark.parametrize(
    ("names", "keys", "found", "several"),
    [
        (["a", "b"], ["b", "a", "c"], {"a": "a", "b": "b"}, {}),
        (["a", "b"], ["masks/a", "masks/b"], {"a": "masks/a", "b": "masks/b"}, {}),
        (["x/a", "x/b"], ["a", "b_pred"], {"x/a": "a", "x/b": "b_pred"}, {}),
        (["x/1", "y/1"], ["x/1_left", "y/1_left"], {"x/1": "x/1_left", "y/1": "y/1_left"}, {}),
        (["x/1", "y/1"], ["1"], {}, {"x/1": ["1"], "y/1": ["1"]}),
        (["a"], ["masks/a", "overlays/a"], {}, {"a": ["masks/a", "overlays/a"]}),
        (["a_1", "a_1_2"], ["a_1_2"], {"a_1_2": "a_1_2"}, {}),  # not the mask of a_1 too
        (["a"], ["ab", "a-pred", "ba"], {}, {}),
    ],
)  # fmt: skip
def test_matching(names, keys, found, several):
    assert matched(names, keys) == (found, several)


def save(folder, name, pixels, mode=None):
    image = Image.fromarray(pixels) if mode != "P" else Image.fromarray(pixels, "L")
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    image.save(folder / f"{name}.png")


def test_indices_palettes_and_colours_are_the_same_mask(tmp_path):
    source = Set(3)
    mask = source.mask(0).numpy()
    save(tmp_path, "000", mask)
    save(tmp_path, "001", mask, mode="P")
    save(tmp_path, "002", PALETTE[mask])
    masks, extra = predicted_masks(tmp_path, source, [2, 0, 1], PALETTE)
    assert extra == []
    for number in range(3):
        np.testing.assert_array_equal(masks.mask(number), mask)
    assert masks.names == [source.names[i] for i in (2, 0, 1)]


def test_foreign_classes_are_kept_to_be_misses(tmp_path):
    save(tmp_path, "000", np.full((16, 24), 7, np.uint8))
    save(tmp_path, "001", np.full((16, 24), 255, np.uint8))
    masks, _ = predicted_masks(tmp_path, Set(2), [0, 1], PALETTE)
    assert (int(masks.mask(0).min()), int(masks.mask(1).min())) == (7, 255)


def test_all_mistakes_are_told_together(tmp_path):
    good = np.zeros((16, 24), np.uint8)
    save(tmp_path, "000", good)
    save(tmp_path, "001", np.zeros((16, 20), np.uint8))
    save(tmp_path, "002", np.full((16, 24), 300, np.uint16))
    save(tmp_path, "003", np.full((16, 24, 3), 9, np.uint8))
    (tmp_path / "004.png").write_bytes(b"no png")
    save(tmp_path, "other", good)
    with pytest.raises(UserError) as told:
        predicted_masks(tmp_path, Set(7), range(7), PALETTE)
    message = str(told.value)
    assert "2 of 7 images have no mask: drive/005; drive/006" in message
    assert "4 masks cannot be used" in message
    assert "001.png is 16x20, its image 16x24" in message
    assert "label 300 is outside" in message
    assert "1 colours are not in the palette" in message
    assert "and 1 more" in message
    assert "1 files belong to no image: other" in message


def test_what_belongs_to_no_image_is_no_mistake_and_images_that_are_not_asked_for_need_no_mask(tmp_path):
    for name in ("000", "001", "other"):
        save(tmp_path, name, np.zeros((16, 24), np.uint8))
    masks, extra = predicted_masks(tmp_path, Set(9), [0], PALETTE)
    assert (len(masks), extra) == (1, ["other"])


def test_several_masks_of_one_image_are_refused(tmp_path):
    for folder in ("masks", "more"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder, "000", np.zeros((16, 24), np.uint8))
    with pytest.raises(UserError, match=r"1 images have several: .* drive/000 \(masks/000, more/000\)"):
        predicted_masks(tmp_path, Set(1), [0], PALETTE)
