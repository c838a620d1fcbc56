"""Sliding windows and test-time augmentation against plain loops over the session that they wrap."""

import numpy as np
import pytest
import torch

from segdistill.bundle.description import Description, Export
from segdistill.errors import UserError
from segdistill.predictor import Predictor
from segdistill.runtimes import averaging
from segdistill.runtimes.augmented import Augmented, resized
from segdistill.runtimes.sliding import SlidingWindow


class Session:
    """Logits that depend on the pixel, on where in its image it lies and on the size of that: nothing cancels out."""

    def __init__(self, size=None, output="logits", least=1):
        export = None if (size, output) == (None, "logits") else Export("onnx", "fp32", output, size)
        self.description = Description("net", "set", ("a", "b", "c"), ((0, 0, 0),) * 3, export=export, least=least)

    def run(self, images):
        export = self.description.export
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert export is None or export.size in (None, images.shape[-2:])
        assert min(images.shape[-2:]) >= self.description.least
        rows, columns = np.mgrid[: images.shape[-2], : images.shape[-1]].astype(np.float32)
        red, green, blue = images.swapaxes(0, 1)
        logits = np.stack([red * rows, green * columns, 3 * blue + 0 * rows], axis=1)
        return softmax(logits) if self.description.output == "probabilities" else logits


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def images(height, width, count=2):
    return np.random.default_rng(0).random((count, 3, height, width), dtype=np.float32)


def test_probabilities_are_torch_s_and_large_logits_do_not_overflow():
    logits = np.random.default_rng(0).normal(0, 100, (2, 5, 3, 4)).astype(np.float32)
    logits[0, 1] = -np.inf
    for axis in (0, 1):
        found = averaging.softmax(logits, axis)
        assert found.dtype == np.float32
        expected = torch.from_numpy(logits).softmax(axis).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [(6, 8), (4, 4), (2, 3), (1, 1)], ids=str)
def test_a_window_over_all_of_the_image_changes_nothing(size):
    given = images(*size)
    found = SlidingWindow(Session(), (6, 8)).run(given)
    np.testing.assert_allclose(found, softmax(Session().run(given)), rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "window", "overlap", "tops", "lefts"),
    [
        ((8, 12), (4, 6), 0.5, [0, 2, 4], [0, 3, 6]),
        ((9, 11), (4, 6), 0.5, [0, 2, 4, 5], [0, 3, 5]),  # strides that do not divide: the last one ends at the border
        ((9, 5), (4, 6), 0.0, [0, 4, 5], [0]),  # narrower than the window
        ((4, 7), (4, 6), 0.9, [0], [0, 1]),
    ],
)
def test_windows_against_a_plain_loop(size, window, overlap, tops, lefts):
    given = images(*size)
    total, count = np.zeros((2, 3, *size)), np.zeros(size)
    for top in tops:
        for left in lefts:
            crop = np.ascontiguousarray(given[:, :, top : top + window[0], left : left + window[1]])
            total[:, :, top : top + window[0], left : left + window[1]] += softmax(Session().run(crop))
            count[top : top + window[0], left : left + window[1]] += 1
    assert count.min() == 1
    found = SlidingWindow(Session(), window, overlap).run(given)
    np.testing.assert_allclose(found, total / count, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [(9, 11), (3, 20), (2, 2)], ids=str)
def test_a_file_of_one_size_gets_windows_of_that_size(size):
    given = images(*size)
    found = SlidingWindow(Session((4, 6)), (4, 6)).run(given)
    assert found.shape == (2, 3, *size)
    filled = np.pad(given, [(0, 0), (0, 0), (0, max(0, 4 - size[0])), (0, max(0, 6 - size[1]))], mode="edge")
    expected = SlidingWindow(Session(), (4, 6)).run(filled)[..., : size[0], : size[1]]
    np.testing.assert_array_equal(found, expected)


def test_mirror_images_against_the_average_by_hand():
    given = images(5, 7)
    plain = softmax(Session().run(given))
    mirrored = softmax(Session().run(np.ascontiguousarray(given[..., ::-1])))[..., ::-1]
    np.testing.assert_allclose(Augmented(Session()).run(given), (plain + mirrored) / 2, rtol=1e-6)
    np.testing.assert_allclose(Augmented(Session(), flip=False).run(given), plain, rtol=1e-6)


def test_scales_against_the_average_by_hand():
    given = images(8, 12)
    views = [resized(given, size) for size in ((4, 6), (8, 12), (10, 15))]
    expected = np.mean([resized(softmax(Session().run(view)), (8, 12)) for view in views], axis=0)
    found = Augmented(Session(), flip=False, scales=[0.5, 1, 1.25])
    np.testing.assert_allclose(found.run(given), expected, rtol=1e-5)


def test_no_view_is_smaller_than_the_network_takes():
    given = images(8, 12)
    small = resized(given, (6, 6))
    expected = resized(softmax(Session().run(small)), (8, 12))
    found = Augmented(Session(least=6), flip=False, scales=[0.5]).run(given)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_resizing_keeps_what_is_flat_and_averages_where_it_gets_smaller():
    np.testing.assert_allclose(resized(np.full((1, 2, 3, 5), 0.25, np.float32), (7, 2)), 0.25, rtol=1e-6)
    stripes = np.tile(np.float32([0, 1]), (1, 1, 4, 8))
    np.testing.assert_allclose(resized(stripes, (1, 1)), 0.5, atol=1e-6)


def test_probabilities_are_not_normalised_again():
    given = images(4, 6)
    found = Augmented(Session(output="probabilities"), flip=False).run(given)
    np.testing.assert_array_equal(found, Session(output="probabilities").run(given))


def test_both_together_are_what_a_predictor_takes():
    session = Augmented(SlidingWindow(Session((4, 6)), (4, 6)), scales=[0.5, 1.5])
    assert session.description.output == "probabilities"
    assert session.description.export.size is None
    image = (255 * images(9, 11, 1)[0].transpose(1, 2, 0)).astype(np.uint8)
    scores = Predictor(session).scores(image)
    assert scores.shape == (3, 9, 11)
    np.testing.assert_allclose(scores.sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SlidingWindow(Session(), (0, 4)), "window=[0, 4]: must be [H, W], each at least 1"),
        (lambda: SlidingWindow(Session(least=8), (4, 9)), "window=[4, 9]: this network takes no side below 8; give at"),
        (lambda: SlidingWindow(Session(), (4,)), "window=[4]: must be [H, W]"),
        (lambda: SlidingWindow(Session(), (4, 4), 1), "overlap=1: must be a share of the window, from 0 and below 1"),
        (lambda: SlidingWindow(Session((4, 6)), (4, 4)), "this file takes 4x6 only; give window=[4,6]"),
        (lambda: SlidingWindow(Session(output="classes"), (4, 4)), "window: averages probabilities, but this file"),
        (lambda: Augmented(Session(output="classes")), "tta: averages probabilities, but this file computes classes"),
        (lambda: Augmented(Session(), scales=[]), "tta.scales=[]: must be one or more sizes"),
        (lambda: Augmented(Session(), scales=[1, 0]), "tta.scales=[1, 0]: must be one or more sizes"),
        (lambda: Augmented(Session((4, 6)), scales=[1, 2]), "tta.scales=[1, 2]: this file takes images of 4x6 only"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError) as told:
        make()
    assert message in str(told.value)
