import pytest
import torch
import torch.nn.functional as F

from segdistill.losses import upsampled
from segdistill.losses.task.cross_entropy import CrossEntropy
from segdistill.losses.task.focal import Focal
from segdistill.losses.task.pixel_loss import upsampled_loss
from segdistill.losses.upsampled import sum_over_pixels

SIZES = [  # of the logits, of the labels
    ((5, 7), (40, 56)),
    ((5, 7), (33, 50)),
    ((8, 9), (3, 4)),
    ((6, 6), (6, 6)),
    ((7, 2), (7, 9)),
    ((3, 9), (10, 9)),
    ((1, 1), (9, 5)),
]


def entropy(logits, target):
    return F.cross_entropy(logits, target, ignore_index=255, reduction="none")


def bilinear(maps, size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def inputs(small=(5, 7), full=(33, 50), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((3, 4, *small), generator=generator, dtype=torch.float64).to(dtype)
    target = torch.randint(0, 4, (3, *full), generator=generator)
    target[:, : full[0] // 3] = 255
    return logits.requires_grad_(), target


@pytest.fixture(params=[1 << 20, 900, 1], ids=lambda piece: f"pieces of {piece}")
def piece(request, monkeypatch):
    monkeypatch.setattr(upsampled, "PIECE", request.param)


def gradient(value, *inputs):
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=value.dtype)
    return torch.autograd.grad((weights * value).sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("small", "full"), SIZES, ids=str)
def test_value_and_gradient_are_those_of_logits_of_full_size(piece, small, full, dtype):
    logits, target = inputs(small, full, dtype)
    found, expected = sum_over_pixels(entropy, target, logits), entropy(bilinear(logits, full), target).sum((1, 2))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, logits), gradient(expected, logits))


@pytest.mark.parametrize(
    "laid_out",
    [lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.transpose(2, 3), lambda x: x[..., ::2]],
)
def test_logits_may_lie_in_memory_as_they_like(piece, laid_out):
    logits, target = inputs((6, 8))
    given = laid_out(logits)
    expected = entropy(bilinear(given, target.shape[1:]), target).sum((1, 2))
    found = sum_over_pixels(entropy, target, given)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, logits), gradient(expected, logits))


def test_two_maps_of_different_sizes_both_with_gradient(piece):
    (one, target), (two, _) = inputs(), inputs((9, 4), seed=1)

    def product(a, b, y):
        return torch.where(y == 255, 0.0, (a.sigmoid() * b).sum(1))

    full = [bilinear(x, target.shape[1:]) for x in (one, two)]
    found, expected = sum_over_pixels(product, target, one, two), product(*full, target).sum((1, 2))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, one, two), gradient(expected, one, two))
    (alone,) = gradient(sum_over_pixels(product, target, one, two.detach()), one)
    torch.testing.assert_close(alone, gradient(expected, one)[0])


def test_gradcheck(piece):
    logits, target = inputs((2, 3), (5, 4))
    assert torch.autograd.gradcheck(lambda x: sum_over_pixels(entropy, target, x), logits)


def test_a_second_derivative_is_refused_and_not_wrong():
    logits, target = inputs()
    (first,) = torch.autograd.grad(sum_over_pixels(entropy, target, logits).sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


def test_no_gradient_is_made_where_none_is_wanted():
    logits, target = inputs()
    seen = []

    def watched(z, y):
        seen.append(torch.is_grad_enabled() or z.requires_grad)
        return entropy(z, y)

    with torch.no_grad():
        value = sum_over_pixels(watched, target, logits)
    frozen = sum_over_pixels(watched, target, logits.detach())
    assert seen == [False, False]
    assert not value.requires_grad
    assert not frozen.requires_grad
    torch.testing.assert_close(value, sum_over_pixels(entropy, target, logits).detach())


def test_own_weights_of_a_loss_are_left_alone():
    logits, target = inputs()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    sum_over_pixels(lambda z, y: factor * entropy(z, y), target, logits).sum().backward()
    assert factor.grad is None  # as the docstring says


def test_half_precision_is_raised(piece):
    logits, target = inputs(dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = sum_over_pixels(entropy, target, logits).sum()
    value.backward()
    expected = sum_over_pixels(entropy, target, logits.detach().double().requires_grad_()).sum()
    assert value.dtype is torch.float32
    assert logits.grad.dtype is torch.float16
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("full", [(33, 50), (5, 7), (40, 7)])
def test_what_is_not_finite_reaches_no_other_pixels_than_with_logits_of_full_size(piece, wrong, full):
    logits, target = inputs((5, 7), full)
    with torch.no_grad():
        logits[0, 1, 1, 3] = logits[1, :, 0, :3] = wrong
    expected = entropy(bilinear(logits, full) if full != (5, 7) else logits, target).isfinite()
    found = sum_over_pixels(lambda z, y: entropy(z, y).isfinite().to(z.dtype), target, logits.detach())
    assert (found >= expected.sum((1, 2))).all()


def test_compiles_in_one_graph():
    logits, target = inputs()
    compiled = torch.compile(lambda x: sum_over_pixels(entropy, target, x), fullgraph=True, backend="aot_eager")
    value = compiled(logits)
    torch.testing.assert_close(value, sum_over_pixels(entropy, target, logits))
    torch.testing.assert_close(gradient(value, logits), gradient(sum_over_pixels(entropy, target, logits), logits))


LOSSES = [
    CrossEntropy(),
    CrossEntropy([1.0, 0.5, 0.0, 4.0], 0.1, 0.5, class_frequencies=torch.tensor([5.0, 3.0, 1.0, 1.0])),
    Focal(),
]


@pytest.mark.parametrize("losses", [*([loss] for loss in LOSSES), LOSSES])
def test_losses_of_pixels_share_a_pass(piece, losses):
    logits, target = inputs()
    weights = [1.0, 0.25, 2.0][: len(losses)]
    full = bilinear(logits, target.shape[1:])
    expected = sum(weight * loss(full, target) for loss, weight in zip(losses, weights, strict=True))
    found = upsampled_loss(losses, weights, logits, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(3 * value, logits) for value in (found, expected)))


@pytest.mark.parametrize("loss", LOSSES)
def test_attached_zero_when_all_is_ignored(loss):
    logits, target = inputs()
    value = upsampled_loss([loss], [1.0], logits, torch.full_like(target, 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
