import math

import pytest
import torch
import torch.nn.functional as F

from segdistill.losses.task.class_weights import class_weights_from
from segdistill.losses.task.cross_entropy import CrossEntropy

FREQUENCIES = torch.tensor([70.0, 20.0, 10.0, 0.0])


def batch():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, 4, 5, 3), generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 3), generator=generator)
    target[0, :2] = 255
    return logits, target


@pytest.mark.parametrize("weights", ["none", [1.0, 0.5, 0.0, 4.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_torch(weights, smoothing):
    logits, target = batch()
    weight = None if weights == "none" else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, target, weight=weight, ignore_index=255, label_smoothing=smoothing)
    assert CrossEntropy(weights, smoothing)(logits, target).item() == pytest.approx(expected.item(), rel=1e-12)


def test_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])[None, :, None]  # (1, 2, 1, 2): p(1) = 3/4, 1/2
    target = torch.tensor([[[1, 0]]])
    assert CrossEntropy()(logits, target).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    weighted = CrossEntropy([3.0, 1.0])(logits, target)
    assert weighted.item() == pytest.approx((math.log(4 / 3) + 3 * math.log(2)) / 4)


def test_logit_adjustment_adds_the_log_prior():
    logits, target = batch()
    shares = torch.tensor([0.7, 0.2, 0.1, 0.1], dtype=torch.float64)  # the absent class takes the rarest's share
    expected = F.cross_entropy(logits + 0.5 * shares.log()[:, None, None], target, ignore_index=255)
    loss = CrossEntropy(logit_adjustment=0.5, class_frequencies=FREQUENCIES)
    assert loss(logits, target).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not loss.state_dict()  # nothing derived goes into a checkpoint


def test_weights_from_frequencies():
    by_log = class_weights_from("inverse_log", FREQUENCIES)
    assert by_log.tolist() == pytest.approx([1 / math.log(1.02 + s) for s in (0.7, 0.2, 0.1, 0.1)])
    by_root = class_weights_from("inverse_sqrt", FREQUENCIES / 100)  # shares do as well as counts
    assert by_root.tolist() == pytest.approx([s**-0.5 for s in (0.7, 0.2, 0.1, 0.1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_weights": "inverse"}, "class_weights=inverse: must be none"),
        ({"class_weights": "inverse_log"}, "class_weights=inverse_log needs class_frequencies"),
        ({"logit_adjustment": 1.0}, "logit_adjustment needs class_frequencies"),
        ({"logit_adjustment": -1.0}, "logit_adjustment=-1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"class_weights": [1.0, -1.0]}, "none may be negative"),
        ({"class_weights": [1.0, 1.0], "class_frequencies": FREQUENCIES}, "2 values for 4 classes"),
        ({"class_weights": "inverse_sqrt", "class_frequencies": torch.zeros(4)}, "one above 0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(**arguments)
