"""Dice, focal and Lovasz: by hand, and against segmentation_models_pytorch where its losses behave."""

import math

import pytest
import torch
from segmentation_models_pytorch import losses as smp

from segdistill.losses.task.dice import Dice
from segdistill.losses.task.focal import Focal
from segdistill.losses.task.lovasz import Lovasz


def batch(labels):
    torch.manual_seed(1)
    logits, target = torch.randn(2, 4, 9, 7, dtype=torch.float64), torch.randint(0, labels, (2, 9, 7))
    target[:, 2:4] = 255
    return logits, target


def test_dice_agrees_when_every_class_occurs():
    logits, target = batch(labels=4)
    expected = smp.DiceLoss("multiclass", ignore_index=255)(logits, target)
    assert Dice()(logits, target).item() == pytest.approx(expected.item(), rel=1e-9)


def test_dice_is_not_diluted_by_classes_that_do_not_occur():
    logits, target = batch(labels=3)
    diluted = smp.DiceLoss("multiclass", ignore_index=255)(logits, target)
    assert Dice()(logits, target).item() == pytest.approx(diluted.item() * 4 / 3, rel=1e-9)


@pytest.mark.parametrize("labels", [1, 3, 4])
def test_lovasz_agrees(labels):
    logits, target = batch(labels)
    logits = logits.float()  # theirs takes nothing else
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, expected = Lovasz()(mine, target), smp.LovaszLoss("multiclass", ignore_index=255)(theirs, target)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-7)


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    target = torch.tensor([[[0, 0, 0, 1, 1, 255]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 0, 0]]])  # IoU 2/4 and 1/3
    logits = 100 * torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1).double()
    assert Lovasz()(logits, target).item() == pytest.approx((1 / 2 + 2 / 3) / 2, rel=1e-6)


def test_focal_by_hand():
    logits = torch.tensor([[0.0, 0.0, 5.0], [math.log(3), 0.0, 0.0]])[None, :, None]  # p(1) = 3/4, 1/2
    target = torch.tensor([[[1, 0, 255]]])
    expected = (0.25**2 * math.log(4 / 3) + 0.5**2 * math.log(2)) / 2
    assert Focal()(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_focal_without_gamma_is_the_cross_entropy():
    logits, target = batch(labels=4)
    expected = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    assert Focal(gamma=0.0)(logits, target).item() == pytest.approx(expected.item())
    with pytest.raises(ValueError, match=r"gamma=0\.5"):
        Focal(gamma=0.5)


def test_why_these_are_our_own():
    """If one of these fails, segmentation_models_pytorch has been mended: our file may go."""
    logits, target = batch(labels=4)
    nothing = torch.full_like(target, 255)
    assert smp.FocalLoss("multiclass", ignore_index=255)(logits, nothing).isnan()
    assert smp.LovaszLoss("multiclass", ignore_index=255)(logits, nothing).shape != ()
    image, truth = torch.zeros(1, 2, 400, 400, dtype=torch.float16), torch.zeros(1, 400, 400, dtype=torch.long)
    assert not smp.DiceLoss("multiclass", ignore_index=255)(image, truth).isfinite()
