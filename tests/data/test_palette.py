import numpy as np
import pytest

from segdistill.data.palette import class_colors
from segdistill.errors import UserError


def test_a_given_palette_is_kept():
    colors = class_colors([[0, 1, 2], [255, 0, 9]], 2)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[0, 1, 2], [255, 0, 9]]


def test_generated_colors_are_distinct_stable_and_nested():
    many = class_colors(None, 171)
    assert many.shape == (171, 3)
    gaps = np.abs(many[:, None].astype(int) - many[None].astype(int)).sum(-1) + 1000 * np.eye(171, dtype=int)
    assert gaps.min() >= 19
    assert (class_colors(None, 9) == many[:9]).all()


def test_messages():
    with pytest.raises(UserError, match="2 colours for 3 classes"):
        class_colors([[0, 0, 0], [1, 1, 1]], 3)
    with pytest.raises(UserError, match=r"\[0, 0, 256\] is no colour"):
        class_colors([[0, 0, 256]], 1)
