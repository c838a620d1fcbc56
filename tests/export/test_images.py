"""The images that an export sees."""

import numpy as np
import pytest

from segdistill.bundle.description import Export
from segdistill.errors import UserError
from segdistill.export.images import Images, readable
from segdistill.predict.sizes import as_taken, batch_of
from tests import tiny
from tests.export.parts import described


def images(source, size, batch):
    indices = range(len(source))
    return Images(source, indices, source, indices, described(Export("onnx", "int8", "logits", size, batch)))


@pytest.mark.parametrize(("size", "batch"), [((16, 24), 1), ((9, 31), 2), (None, None)])
def test_calibration_sees_images_as_the_predictor_makes_them(size, batch):
    source = tiny.Set(2)
    given = images(source, size, batch)

    for index, found in enumerate(given.calibration()):
        taken = as_taken(source.image(index).permute(1, 2, 0).numpy(), given.description)
        expected = batch_of([taken], batch or 1)
        np.testing.assert_array_equal(found.numpy(), expected)
        assert found.shape == (batch or 1, 3, *(size or (16, 24)))
    assert index == 1


@pytest.mark.parametrize(
    ("size", "batch", "shapes"),
    [
        ((16, 24), 1, []),
        ((16, 24), 4, [(4, 3, 16, 24)]),
        ((16, 24), None, [(3, 3, 16, 24)]),
        (None, 1, [(1, 3, 13, 19)]),
        (None, None, [(3, 3, 16, 24), (3, 3, 13, 19)]),
    ],
)
def test_batches_hold_different_images_and_an_odd_size(size, batch, shapes):
    found = list(images(tiny.Set(sizes=[(16, 24), (20, 20), (16, 24)]), size, batch).batches())

    assert [one.shape for one in found] == shapes
    assert all((one[0] != one[1]).any() for one in found if len(one) > 1)


def test_images_that_cannot_be_read_are_left_out_or_refused(capsys):
    source = tiny.Set(4, broken=[1])

    assert readable(source, [0, 1, 3], "val", "skip", mask=True) == [0, 3]
    assert "left out: drive/001.png: cannot be read" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"drive/001\.png: cannot be read"):
        readable(source, [0, 1], "val", "raise", mask=True)
    with pytest.raises(UserError, match="val: none of its 1 images can be read"):
        readable(source, [1], "val", "skip", mask=True)
