import pytest
import torch

from segdistill.losses.kd.cwd import ChannelWise
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.temperature import Learned, Scheduled, softening
from tests.losses import golden

PAIR = {"student": golden.STUDENT_LOGITS, "teacher": golden.TEACHER_LOGITS, "target": golden.LABELS}
VALID = torch.ones(2, 8, 12, dtype=torch.bool)


def test_a_schedule_moves_linearly():
    tau = Scheduled(8.0, 2.0)
    for progress, value in ((0.0, 8.0), (0.5, 5.0), (1.0, 2.0)):
        tau.at(progress)
        assert softening(tau, golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, VALID).flatten().tolist() == [value, value]


@pytest.mark.parametrize(("loss", "at_one", "at_four"), [
    (PixelKL, 4.059659693780995, 7.535614022398312), (ChannelWise, 2.634565037601921, 5.558709960041732)
])  # fmt: skip
def test_a_scheduled_loss_has_the_golden_values_at_both_ends(loss, at_one, at_four):
    tau = Scheduled(4.0, 1.0)
    made = loss(tau)
    assert made(**PAIR).item() == pytest.approx(at_four, rel=1e-10)
    tau.at(1.0)
    assert made(**PAIR).item() == pytest.approx(at_one, rel=1e-10)


class Given(torch.nn.Module):
    def forward(self, student, teacher, valid):
        return torch.tensor([1.0, 4.0], dtype=torch.float64)[:, None, None, None]


@pytest.mark.parametrize("loss", [PixelKL, ChannelWise])
def test_each_image_has_its_own(loss):
    one = [loss(tau)(**{k: v[i : i + 1] for k, v in PAIR.items()}).item() for i, tau in enumerate((1.0, 4.0))]
    assert loss(Given())(**PAIR).item() == pytest.approx(sum(one) / 2, rel=1e-10)


def test_a_learned_one_stays_in_its_range_and_maximises_the_loss_with_growing_strength():
    torch.manual_seed(0)
    tau = Learned(1.0, 6.0, grows=0.5).double()
    made = PixelKL(tau)
    optimizer = torch.optim.SGD(tau.parameters(), lr=0.1)
    history = []
    for _ in range(30):
        value = made(**PAIR)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert history[0] == pytest.approx(history[-1], rel=1e-12)  # strength 0: nothing has moved
    tau.at(0.5)
    for _ in range(30):
        value = made(**PAIR)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert made(**PAIR).item() > history[0]
    found = softening(tau, golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, VALID)
    assert found.shape == (2, 1, 1, 1)
    assert ((found > 1) & (found < 6)).all()


def test_a_learned_one_does_not_see_ignored_pixels():
    tau, valid = Learned().double(), VALID.clone()
    valid[:, :4] = False
    before = softening(tau, golden.STUDENT_LOGITS, golden.TEACHER_LOGITS, valid)
    changed = golden.STUDENT_LOGITS.clone()
    changed[:, :, :4] = 1e4
    assert softening(tau, changed, golden.TEACHER_LOGITS, valid).equal(before)


@pytest.mark.parametrize("wrong", [{"lowest": 0}, {"lowest": 3, "highest": 2}, {"grows": 0}])
def test_impossible_ranges(wrong):
    with pytest.raises(ValueError, match=r"0 < lowest < highest|above 0"):
        Learned(**wrong)
    with pytest.raises(ValueError, match="above 0"):
        Scheduled(end=-1)
