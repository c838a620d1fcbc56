import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segdistill.bundle.description import Description, Export
from segdistill.predict import sizes
from segdistill.predict.sizes import at_size, highest

RNG = np.random.default_rng(0)


def description(size=None, batch=1, least=1, output="logits", exported=True):
    export = Export("onnx", "fp32", output, size, batch) if exported else None
    return Description("x", "y", ("a", "b"), ((0, 0, 0), (1, 1, 1)), export=export, least=least)


def batch_of(pixels, one):
    return sizes.batch_of([sizes.as_taken(pixels, one)], 1)


def image(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_of_the_file_s_size_is_exact():
    pixels = image(12, 20)
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    for one in (description((12, 20)), description(), description(exported=False)):
        batch = batch_of(pixels, one)
        assert np.array_equal(batch, expected.numpy())
        assert batch.flags.c_contiguous
    scores = RNG.normal(size=(2, 12, 20)).astype(np.float32)
    assert at_size(scores, (12, 20), description((12, 20))) is scores


@pytest.mark.parametrize("size", [(24, 40), (31, 17), (12, 50), (200, 300)])
def test_scores_are_enlarged_as_torch_does(size):
    scores = RNG.normal(size=(3, 12, 16)).astype(np.float32)
    found = at_size(scores, size, description((12, 16)))
    expected = F.interpolate(torch.from_numpy(scores)[None], size=size, mode="bilinear", align_corners=False)[0]
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("size", [(6, 8), (5, 11), (1, 1)])
def test_scores_and_images_shrink_antialiased(size):
    scores = RNG.normal(size=(3, 12, 16)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(scores)[None], size=size, mode="bilinear", antialias=True)[0]
    assert np.abs(at_size(scores, size, description((12, 16))) - expected.numpy()).max() < 1e-5
    pixels = image(12, 16)
    wide = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    small = F.interpolate(wide, size=size, mode="bilinear", antialias=True) / 255
    assert np.abs(batch_of(pixels, description(size)) - small.numpy()).max() < 1.01 / 255  # rounded once to 8 bits


def test_classes_are_taken_from_the_nearest():
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    large = at_size(mask, (4, 6), description((2, 2), output="classes"))
    assert np.array_equal(large, np.kron(mask, np.ones((2, 3), np.uint8)))
    assert np.array_equal(at_size(large, (2, 2), description((4, 6), output="classes")), mask)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (7, 8)])
def test_short_sides_are_lengthened_and_cut_off_again(size):
    pixels = image(*size)
    one = description(least=8, exported=False)
    batch = batch_of(pixels, one)
    assert min(batch.shape[2:]) >= 8
    assert np.array_equal(batch[0, :, : size[0], : size[1]], pixels.transpose(2, 0, 1) / np.float32(255))
    assert (batch[0, :, size[0] :, : size[1]] == batch[0, :, size[0] - 1 : size[0], : size[1]]).all()
    scores = np.arange(batch.shape[2] * batch.shape[3], dtype=np.float32).reshape(1, *batch.shape[2:])
    assert np.array_equal(at_size(scores, size, one), scores[:, : size[0], : size[1]])
    assert batch_of(image(8, 9), one).shape == (1, 3, 8, 9)


def test_the_last_image_fills_a_batch_up():
    images = [image(4, 5), image(4, 5)]
    batch = sizes.batch_of(images, 4)
    assert batch.shape == (4, 3, 4, 5)
    expected = np.stack([images[0], *images[1:] * 3]).transpose(0, 3, 1, 2) / np.float32(255)
    assert np.array_equal(batch, expected)


@pytest.mark.parametrize("classes", [1, 2, 11, 150])
def test_the_highest_score_is_argmax_with_ties(classes):
    scores = RNG.integers(-3, 4, (classes, 30, 20)).astype(np.float32)
    assert np.array_equal(highest(scores), scores.argmax(axis=0))
    assert highest(scores).dtype == np.uint8
