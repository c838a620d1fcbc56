import pytest
import torch

from segdistill.losses.kd import divergence
from segdistill.losses.kd.divergence import divergence_over_positions

VALID = torch.tensor([[[True, False, True], [True, True, False]], [[False] * 3] * 2])
SHAPE = (2, 4, 2, 3)


def inputs():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, *SHAPE, dtype=torch.float64)
    tau = torch.tensor([1.5, 4.0], dtype=torch.float64).view(2, 1, 1, 1)
    prior = torch.rand(2, 2, 3, dtype=torch.float64).log()
    return student.requires_grad_(), teacher, tau.requires_grad_(), prior


def plain(student, teacher, tau, prior):
    """Of the first image; the other has no valid position."""
    v = VALID[0]
    log_s, log_t = ((x[0, :, v] / tau[0, :, 0] + prior[0][v]).log_softmax(dim=1) for x in (student, teacher))
    return (log_t.exp() * (log_t - log_s)).sum(dim=1)


@pytest.fixture(params=[1 << 19, 12, 6, 1], ids=lambda piece: f"pieces of {piece}")
def piece(request, monkeypatch):
    monkeypatch.setattr(divergence, "PIECE", request.param)


@pytest.mark.parametrize("weighed", [False, True])
def test_value_and_gradients_are_autograd_s(piece, weighed):
    student, teacher, tau, prior = inputs()
    prior = prior if weighed else torch.zeros_like(prior)
    weights = torch.tensor([[1.0, -2.0, 0.5, 3.0], [5.0] * 4], dtype=torch.float64)
    found = divergence_over_positions(student, teacher, VALID, tau, prior if weighed else None)
    expected = plain(student, teacher, tau, prior)
    torch.testing.assert_close(found, torch.stack([expected, torch.zeros_like(expected)]))
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), [student, tau]),
        torch.autograd.grad((expected * weights[0]).sum(), [student, tau]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradcheck_through_student_and_temperature(piece):
    student, teacher, tau, prior = inputs()
    assert torch.autograd.gradcheck(lambda s, t: divergence_over_positions(s, teacher, VALID, t, prior), (student, tau))


def test_a_second_derivative_is_refused_and_not_wrong():
    student, teacher, tau, _ = inputs()
    value = divergence_over_positions(student, teacher, VALID, tau.detach())
    (gradient,) = torch.autograd.grad(value.sum(), student, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


def test_compiles_in_one_graph():
    student, teacher, tau, _ = inputs()
    compiled = torch.compile(divergence_over_positions, fullgraph=True, backend="aot_eager")
    compiled(student, teacher, VALID, tau.detach()).sum().backward()
    expected = torch.autograd.grad(divergence_over_positions(student, teacher, VALID, tau.detach()).sum(), student)[0]
    torch.testing.assert_close(student.grad, expected)
