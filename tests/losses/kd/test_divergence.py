import pytest
import torch

from segdistill.losses.kd.divergence import divergence_over_positions

VALID = torch.tensor([[[True, False, True], [True, True, False]], [[False] * 3] * 2])


def plain(student, teacher, valid):
    found = []
    for s, t, v in zip(student, teacher, valid, strict=True):
        log_s, log_t = (x[:, v].log_softmax(dim=1) for x in (s, t))
        found.append((log_t.exp() * (log_t - log_s)).sum(dim=1))
    return torch.stack(found)


def test_value_and_both_gradients_are_autograd_s():
    student, teacher = torch.randn(2, 2, 4, 2, 3, dtype=torch.float64).requires_grad_().unbind()
    weights = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0] * 4], dtype=torch.float64)
    found = divergence_over_positions(student, teacher, VALID)
    expected = plain(student[:1], teacher[:1], VALID[:1])
    torch.testing.assert_close(found[:1], expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), [student, teacher], retain_graph=True),
        torch.autograd.grad((expected * weights[:1]).sum(), [student, teacher]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradcheck_through_student_and_teacher():
    student, teacher = (torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda s, t: divergence_over_positions(s, t, VALID), (student, teacher))


def test_a_second_derivative_is_refused_and_not_wrong():
    student = torch.randn(1, 1, 1, 3, requires_grad=True)
    value = divergence_over_positions(student, torch.randn(1, 1, 1, 3), torch.ones(1, 1, 3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(value.sum(), student, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


def test_compiles_in_one_graph():
    student, teacher = torch.randn(2, 3, 2, 3, requires_grad=True), torch.randn(2, 3, 2, 3)
    compiled = torch.compile(divergence_over_positions, fullgraph=True, backend="aot_eager")
    compiled(student, teacher, VALID).sum().backward()
    expected = torch.autograd.grad(divergence_over_positions(student, teacher, VALID).sum(), student)[0]
    torch.testing.assert_close(student.grad, expected)
