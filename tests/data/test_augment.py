"""The geometry in a batch says, to the pixel, where the view comes from; whichever way the view was made."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tvf

from segdistill.data.augment import FILL, IDENTITY, Augment, adjust_colours, apply_view, sample_views
from segdistill.ignore import IGNORE

SIZE = (30, 44)
CROP = (12, 18)
STEP = 5  # grey levels from one source pixel to the next


def ramp(size=SIZE):
    """R is STEP * x and G is STEP * y of every pixel."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([STEP * x, STEP * y, torch.full_like(x, 7)]).to(torch.uint8)


def numbered(size=SIZE):
    """Every pixel has a label of its own."""
    return 1000 + torch.arange(size[0] * size[1], dtype=torch.int32).reshape(size)


def source_points(theta, size=SIZE, crop=CROP):
    """(H, W) x and y of every output pixel's centre in the source, in pixels from its left and upper border; slowly."""
    (height, width), (out_height, out_width) = size, crop
    x, y = np.empty(crop), np.empty(crop)
    theta = theta.double().tolist()
    for i in range(out_height):
        for j in range(out_width):
            u, v = (2 * j + 1) / out_width - 1, (2 * i + 1) / out_height - 1
            x[i, j] = (theta[0][0] * u + theta[0][1] * v + theta[0][2] + 1) * width / 2
            y[i, j] = (theta[1][0] * u + theta[1][1] * v + theta[1][2] + 1) * height / 2
    return x, y


def looked_up(mask, x, y):
    height, width = mask.shape
    return mask[y, x].item() if 0 <= y < height and 0 <= x < width else IGNORE


def assert_mask_follows(new, mask, theta):
    """Nearest pixel centre; a point on a pixel's border (within 1e-3) may take either side."""
    x, y = source_points(theta, mask.shape, new.shape)
    exact = 0
    for i, j in np.ndindex(*new.shape):
        allowed = {
            looked_up(mask, math.floor(x[i, j] + dx), math.floor(y[i, j] + dy))
            for dx in (-1e-3, 1e-3)
            for dy in (-1e-3, 1e-3)
        }
        exact += len(allowed) == 1
        assert new[i, j].item() in allowed, f"pixel {(i, j)} shows source {(x[i, j], y[i, j])}"
    return exact


def assert_image_follows(new, theta, size=SIZE, tolerance=1.01):
    """Inside, R and G are the source point's coordinates; far outside the image is FILL."""
    x, y = source_points(theta, size, new.shape[1:])
    step = np.abs(theta.double().numpy()[:, :2] * np.array([size[1], size[0]])[:, None] / 2)  # half the box per axis
    shrink = max(1.0, *(2 * step / np.array([new.shape[2], new.shape[1]])).sum(1))  # source pixels per output pixel
    margin = shrink + 1
    # away from the image's border, and from the view's own, where a resized patch has nothing to look at
    rows, cols = np.indices(new.shape[1:])
    edge = np.minimum.reduce([rows, cols, new.shape[1] - 1 - rows, new.shape[2] - 1 - cols])
    pixels = np.sqrt(abs(np.linalg.det(theta[:, :2].double().numpy())) * size[0] * size[1] / np.prod(new.shape[1:]))
    inner = edge + 0.5 > margin / pixels
    inside = inner & (np.minimum.reduce([x, y, size[1] - x, size[0] - y]) > margin)
    outside = np.maximum.reduce([-x, -y, x - size[1], y - size[0]]) > margin
    red, green = new[0].double().numpy(), new[1].double().numpy()
    assert np.abs(red - STEP * (x - 0.5))[inside].max(initial=0) <= tolerance
    assert np.abs(green - STEP * (y - 0.5))[inside].max(initial=0) <= tolerance
    assert new.permute(1, 2, 0)[torch.from_numpy(outside)].eq(torch.tensor(FILL)).all()
    return inside.sum(), outside.sum()


def draws(count, size=SIZE, crop=CROP, **options):
    augment = Augment(crop, **options)
    return [augment.draw(np.random.default_rng(seed), size).geometry for seed in range(count)]


def by_loader(image, mask, theta, crop=CROP):
    return apply_view(image, mask, theta, crop)


def by_device(image, mask, theta, crop=CROP):
    images, masks = sample_views(image[None], mask[None], theta[None], crop)
    return images[0], masks[0]


WAYS = pytest.mark.parametrize("way", [by_loader, by_device])


@WAYS
@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_mask_and_image_follow_the_geometry(way, rotation):
    image, mask = ramp(), numbered()
    exact = inside = outside = 0
    thetas = draws(40, scale=(0.3, 2.5), rotation=rotation)
    assert any(theta[0, 0] < 0 for theta in thetas)
    assert any(theta[0, 0] > 0 for theta in thetas)
    for theta in thetas:
        new_image, new_mask = way(image, mask, theta)
        assert new_image.shape == (3, *CROP)
        assert new_image.dtype == torch.uint8
        assert new_image.is_contiguous()
        exact += assert_mask_follows(new_mask, mask, theta)
        found = assert_image_follows(new_image, theta)
        inside, outside = inside + found[0], outside + found[1]
    assert exact > 0.8 * 40 * math.prod(CROP)  # the checks above looked at something
    assert inside > 1000
    assert outside > 30


@WAYS
@pytest.mark.parametrize("size", [(5, 7), (30, 7), (1, 1)])
def test_a_crop_beyond_the_image(way, size):
    image, mask = ramp(size), numbered(size)
    for theta in draws(15, size=size, scale=(1.0, 1.0)):
        new_image, new_mask = way(image, mask, theta)
        assert_mask_follows(new_mask, mask, theta)
        assert_image_follows(new_image, theta, size)
        shown = min(size[0], CROP[0]) * min(size[1], CROP[1])
        assert (new_mask != IGNORE).sum() == shown  # a small image lies wholly inside the crop


def test_at_native_scale_the_loader_copies_pixels():
    image, mask = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8), numbered()
    for theta in draws(20, scale=(1.0, 1.0)):
        new_image, new_mask = apply_view(image, mask, theta, CROP)
        top, left = divmod(int(new_mask.min()) - 1000, SIZE[1])
        rows, cols = slice(top, top + CROP[0]), slice(left, left + CROP[1])
        flip = (lambda x: x.flip(-1)) if theta[0, 0] < 0 else (lambda x: x)
        assert torch.equal(new_mask, flip(mask[rows, cols]))
        assert torch.equal(new_image, flip(image[:, rows, cols]))


def test_the_two_ways_agree():
    smooth = F.interpolate(torch.rand(1, 3, 5, 7), size=SIZE, mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)[0]
    mask = numbered()
    for theta in draws(40, scale=(0.5, 2.0)):
        (image_a, mask_a), (image_b, mask_b) = (way(smooth, mask, theta) for way in (by_loader, by_device))
        x, y = source_points(theta)
        on_border = np.minimum(np.abs(x - x.round()), np.abs(y - y.round())) < 1e-3
        assert torch.equal(mask_a[torch.from_numpy(~on_border)], mask_b[torch.from_numpy(~on_border)])
        inner = torch.zeros(CROP, dtype=torch.bool)
        inner[2:-2, 2:-2] = True
        near = np.minimum.reduce([np.abs(x), np.abs(y), np.abs(x - SIZE[1]), np.abs(y - SIZE[0])]) < 4
        inner &= torch.from_numpy(~near)
        difference = (image_a.int() - image_b.int()).abs().amax(0)[inner]
        assert difference.float().mean() < 5
        assert difference.max() <= 16


@WAYS
def test_shrinking_averages_and_masks_never_do(way):
    image, mask = torch.zeros(3, 30, 45, dtype=torch.uint8), torch.zeros(30, 45, dtype=torch.uint8)
    image[..., ::3], mask[:, ::2] = 200, 7  # a third of the columns; the view's pixel centres fall between them
    new_image, new_mask = way(image, mask, IDENTITY.geometry, (10, 15))
    assert (new_image[:, 2:-2, 2:-2].float() - 200 / 3).abs().max() < 15
    assert set(new_mask.unique().tolist()) == {0, 7}


def test_a_batch_has_a_view_of_its_own_for_every_image():
    image, mask = ramp(), numbered()
    thetas = torch.stack(draws(4, rotation=10.0))
    images, masks = sample_views(torch.stack([image, image.flip(0), image, image]), mask.repeat(4, 1, 1), thetas, CROP)
    for i, source in enumerate([image, image.flip(0), image, image]):
        alone = by_device(source, mask, thetas[i])
        assert torch.equal(images[i], alone[0])
        assert torch.equal(masks[i], alone[1])


def test_geometry_is_the_theta_of_affine_grid():
    theta = draws(1, scale=(1.7, 1.7), rotation=20.0)[0]
    x, y = source_points(theta)
    grid = F.affine_grid(theta[None], [1, 1, *CROP], align_corners=False)[0].double().numpy()
    np.testing.assert_allclose((grid[..., 0] + 1) * SIZE[1] / 2, x, atol=1e-4)
    np.testing.assert_allclose((grid[..., 1] + 1) * SIZE[0] / 2, y, atol=1e-4)


def test_zoom_flip_and_rotation_are_what_they_say():
    square = Augment((20, 20), scale=(2.0, 2.0), flip=1.0).draw(np.random.default_rng(0), (40, 40)).geometry
    assert square[0, 0] == pytest.approx(-10 / 40)  # twice the size shows half of the crop's width, mirrored
    assert square[1, 1] == pytest.approx(10 / 40)
    turned = [
        Augment((20, 20), scale=(1.0, 1.0), flip=0.0, rotation=25.0).draw(np.random.default_rng(i), (40, 40)).geometry
        for i in range(50)
    ]
    angles = [math.degrees(math.atan2(t[1, 0], t[0, 0])) for t in turned]
    assert -25 <= min(angles) < -15
    assert 15 < max(angles) <= 25
    for theta in turned:
        torch.testing.assert_close(theta[:, :2] @ theta[:, :2].T, 0.25 * torch.eye(2), atol=1e-6, rtol=0)


def test_a_view_is_a_function_of_the_generator_alone():
    augment = Augment(CROP, rotation=5.0, brightness=0.3, contrast=0.3, saturation=0.3, blur=2.0)
    first = augment.draw(np.random.default_rng((1, 2, 3)), SIZE)
    torch.manual_seed(99)
    np.random.seed(99)
    again, other = (augment.draw(np.random.default_rng((1, 2, last)), SIZE) for last in (3, 4))
    assert torch.equal(first.geometry, again.geometry)
    assert torch.equal(first.photometric, again.photometric)
    assert not torch.equal(first.geometry, other.geometry)


def test_colour_factors_stay_in_their_ranges():
    augment = Augment(CROP, brightness=0.1, contrast=0.2, saturation=0.3, blur=2.0)
    drawn = torch.stack([augment.draw(np.random.default_rng(i), SIZE).photometric for i in range(200)])
    for column, width in enumerate((0.1, 0.2, 0.3)):
        assert 1 - width <= drawn[:, column].min() < 1 - 0.9 * width
        assert 1 + 0.9 * width < drawn[:, column].max() <= 1 + width
    assert 0.3 < drawn[:, 3].eq(0).float().mean() < 0.7  # every second image
    assert 1.8 < drawn[:, 3].max() <= 2


def picture(n=1):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def adjust(images, **factors):
    names = ("brightness", "contrast", "saturation", "sigma")
    default = dict(zip(names, (1.0, 1.0, 1.0, 0.0), strict=True))
    return adjust_colours(images.clone(), torch.tensor([[*(default | factors).values()]] * len(images)))


def test_identity_factors_change_nothing():
    torch.testing.assert_close(adjust(picture(2)), picture(2), atol=1e-6, rtol=0)
    plain = adjust_colours(picture(2), IDENTITY.photometric.expand(2, -1))
    torch.testing.assert_close(plain, picture(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.4, 1.6])
def test_each_factor_is_torchvisions(name, factor):
    expected = getattr(tvf, f"adjust_{name}")(picture(), factor)
    assert (expected - picture()).abs().max() > 0.05
    torch.testing.assert_close(adjust(picture(), **{name: factor}), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_blur_is_torchvisions(sigma):
    expected = tvf.gaussian_blur(picture(), kernel_size=[9, 9], sigma=[sigma, sigma])[..., 4:-4, 4:-4]
    torch.testing.assert_close(adjust(picture(), sigma=sigma)[..., 4:-4, 4:-4], expected, atol=1e-4, rtol=0)


def test_every_image_of_a_batch_has_its_own_colours():
    images = picture(3)
    factors = torch.tensor([[1.2, 1.0, 1.0, 0.0], [1.0, 0.7, 1.3, 1.5], [0.8, 1.1, 0.5, 0.0]])
    together = adjust_colours(images.clone(), factors)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], adjust_colours(images[i : i + 1].clone(), factors[i : i + 1]))


def test_blur_keeps_flat_colours_and_borders():
    flat = torch.full((1, 3, 10, 10), 0.3)
    torch.testing.assert_close(adjust(flat, sigma=2.0), flat)
