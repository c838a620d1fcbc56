import math

import pytest
import torch
import torch.nn.functional as F

from segdistill.losses.task.ohem import OHEM


def slow_ohem(logits, target, threshold, min_kept, weights):
    losses = []
    for image, labels in zip(logits, target, strict=True):
        for y in range(labels.shape[0]):
            for x in range(labels.shape[1]):
                if (label := int(labels[y, x])) != 255:
                    losses.append((-float(image[:, y, x].log_softmax(0)[label]), weights[label]))
    losses.sort(reverse=True)
    kept = math.ceil(min_kept * len(losses))
    hard = [pair for i, pair in enumerate(losses) if i < kept or pair[0] > -math.log(threshold)]
    return sum(loss * weight for loss, weight in hard) / sum(weight for _, weight in hard)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 1 / 16), (0.02, 0.4), (1.0, 0.0), (0.001, 1.0)])
@pytest.mark.parametrize("weights", ["none", [1.0, 2.0, 0.5]])
def test_slow_reference(threshold, min_kept, weights):
    torch.manual_seed(0)
    logits, target = 2 * torch.randn(2, 3, 7, 5, dtype=torch.float64), torch.randint(0, 3, (2, 7, 5))
    target[torch.rand(target.shape) < 0.2] = 255
    expected = slow_ohem(logits, target, threshold, min_kept, [1.0] * 3 if weights == "none" else weights)
    assert OHEM(threshold, min_kept, weights)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_keeping_all_is_the_cross_entropy():
    logits, target = torch.randn(1, 3, 4, 4, dtype=torch.float64), torch.randint(0, 3, (1, 4, 4))
    assert OHEM(min_kept=1.0)(logits, target).item() == pytest.approx(F.cross_entropy(logits, target).item())


def test_no_hard_pixel_and_none_kept_is_zero():
    logits = torch.tensor([9.0, 0.0])[None, :, None, None].requires_grad_()
    loss = OHEM(min_kept=0.0)(logits, torch.zeros(1, 1, 1, dtype=torch.long))
    assert loss.item() == 0
    assert loss.requires_grad


@pytest.mark.parametrize(
    "arguments", [{"threshold": 0.0}, {"threshold": 1.5}, {"min_kept": 100_000}, {"min_kept": -0.1}]
)
def test_mistakes_are_named(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        OHEM(**arguments)
