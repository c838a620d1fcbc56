import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from skimage.measure import perimeter_crofton

from segdistill.metrics.contour import Contour, bands, crofton_lengths, distances
from tests.metrics.maps import blobs, slow_contour, square


def everywhere(labels):
    return np.ones(labels.shape, bool)


def test_contour_of_a_square():
    labels = square(size=10)
    contour = Contour(labels, everywhere(labels))
    assert (contour.classes == 1).sum() == 36  # the outermost ring of the square
    assert (contour.classes == 0).sum() == 40  # the ring around it, without corners
    assert np.array_equal(labels[tuple(contour.at.T)], contour.classes)
    assert len(contour.at) == 76


@pytest.mark.parametrize("ignored", [0.0, 0.2])
def test_contours_by_loops(ignored):
    labels = blobs(5, ignored=ignored)
    contour = Contour(labels, labels != 255)
    for name in range(5):
        assert np.array_equal(contour.at[contour.classes == name], slow_contour(labels, labels != 255, name))


def test_no_boundary_at_an_ignored_pixel_or_at_the_edge_of_the_image():
    labels = np.array([[0, 0, 255, 1, 1]], np.uint8)
    assert not len(Contour(labels, labels != 255).classes)
    assert not len(Contour(np.zeros((1, 1), np.uint8), np.ones((1, 1), bool)).classes)
    assert crofton_lengths(labels, labels != 255, 2).tolist() == [0, 0]
    # but a band reaches across the ignored pixel: what lies behind it is known
    assert next(bands(labels, labels != 255, [2])).tolist() == [[False, True, False, True, False]]


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_all_pairs(seed):
    one, other = blobs(4, seed=seed, ignored=0.1), blobs(6, seed=seed + 9, smooth=2)
    valid = one != 255
    source, target = Contour(one, valid), Contour(np.where(valid, other, 255), valid)
    for here, there in ((source, target), (target, source)):
        found = distances(here, there)
        for name in range(6):
            at, goal = here.at[here.classes == name], there.at[there.classes == name]
            expected = cdist(at, goal).min(axis=1) if len(goal) else np.full(len(at), np.inf)
            assert found[here.classes == name] == pytest.approx(expected)


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_bands_are_what_erosion_takes_away(radius):
    labels = blobs(5)
    (band,) = bands(labels, everywhere(labels), [radius])
    for name in range(5):
        own = labels == name
        # border_value=1: the edge of the image is no boundary
        kept = binary_erosion(own, np.ones((3, 3)), iterations=radius, border_value=1)
        assert np.array_equal(band & own, own & ~kept)


def test_bands_grow_as_if_each_was_made_alone_and_do_not_see_ignored_pixels():
    labels = blobs(5, ignored=0.2)
    valid = labels != 255
    for radius, band in zip((1, 3, 4, 9), bands(labels, valid, [1, 3, 4, 9]), strict=True):
        assert np.array_equal(band, next(bands(labels, valid, [radius])))
        for y, x in ((5, 7), (20, 30), (36, 52), (0, 0)):
            window = np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            others = valid[window] & (labels[window] != labels[y, x])
            assert band[y, x] == (valid[y, x] and others.any())


def test_lengths_are_those_of_scikit_image():
    inner = blobs(6)
    labels = np.full((41, 57), 6, np.uint8)  # no region touches the edge, where scikit-image has a boundary
    labels[2:-2, 2:-2] = inner
    found = crofton_lengths(labels, everywhere(labels), 6)
    assert found == pytest.approx([perimeter_crofton(labels == name, directions=4) for name in range(6)])


def test_length_of_a_large_disc():
    y, x = np.mgrid[-50:51, -50:51]
    disc = (y * y + x * x <= 40**2).astype(np.uint8)
    assert crofton_lengths(disc, everywhere(disc), 2) == pytest.approx([80 * np.pi] * 2, rel=0.01)
