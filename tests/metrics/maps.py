"""Small label maps with something to see."""

import numpy as np
from scipy import ndimage


def square(size=10, top=8, left=8, shape=(30, 40)):
    """A square of class 1 on class 0; the diagonal of the image is 50 pixels."""
    labels = np.zeros(shape, np.uint8)
    labels[top : top + size, left : left + size] = 1
    return labels


def blobs(classes, shape=(37, 53), seed=0, smooth=3.0, ignored=0.0):
    """Random regions of ``classes`` classes, a part of the pixels ignored in patches."""
    generator = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(generator.normal(size=(classes, *shape)), (0, smooth, smooth))
    labels = fields.argmax(axis=0).astype(np.uint8)
    if ignored:
        field = ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
        labels[field > np.quantile(field, 1 - ignored)] = 255
    return labels


def probabilities(labels, classes, seed=0, sharpness=2.0):
    """(C, H, W) float32 that prefer ``labels`` somewhat."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(classes, *labels.shape)) * sharpness
    logits += sharpness * (labels == np.arange(classes)[:, None, None])
    odds = np.exp(logits)
    return (odds / odds.sum(axis=0)).astype(np.float32)


def slow_contour(labels, valid, name):
    """(N, 2) contour pixels of a class, by loops."""
    height, width = labels.shape
    found = []
    for y, x in np.ndindex(height, width):
        if not valid[y, x] or labels[y, x] != name:
            continue
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [(a, b) for a, b in around if 0 <= a < height and 0 <= b < width and valid[a, b]]
        if any(labels[at] != name for at in around):
            found.append((y, x))
    return np.array(found).reshape(-1, 2)
