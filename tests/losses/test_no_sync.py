"""No loss makes the host wait for an accelerator: on a CPU, by the operators that would."""

import inspect

import pytest
import torch
from hydra.utils import get_class, instantiate
from torch.utils._python_dispatch import TorchDispatchMode

from segdistill.engine.objective import TaskLoss
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.task.boundary import BoundaryAware, DetailGuidance
from segdistill.models.output import SegOutput
from tests.losses.kd.terms import TERMS, each, given, labels, listed, make
from tests.losses.task.test_properties import TERMS as TASK_TERMS

WAITS = {  # their result's value or shape depends on what the device has computed
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "argwhere", "masked_select",
    "unique_dim", "_unique", "_unique2", "unique_consecutive", "bincount", "histc", "allclose", "_linalg_check_errors",
}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Refuses them, indexing by a mask, and repeating by counts."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        counts = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
        if name in WAITS or masks or counts:
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_waits():
    x = torch.arange(4.0)
    for waits in (
        lambda: x.sum().item(),
        lambda: bool(x.any()),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: x.unique(),
        lambda: torch.where(x > 1),
        lambda: x.repeat_interleave(x.long()),
        lambda: x.masked_select(x > 1),
        lambda: x.clone().__setitem__(x > 1, torch.ones(2)),
    ):
        with NoWaiting(), pytest.raises(AssertionError, match="wait"):
            waits()
    with NoWaiting():
        x[torch.tensor([1, 2])].repeat_interleave(2).masked_fill(x > 1, 0.0)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("training", [True, False])
def test_distillation(name, training):
    loss = make(name, dtype=torch.float32).train(training)
    student = each(given(name, 2, dtype=torch.float32), lambda x: x.requires_grad_())
    teacher, target = given(name, 2, seed=1, dtype=torch.float32), labels(2, 12, 14)
    with NoWaiting():
        loss(student=student, teacher=teacher, target=target).backward()
    assert any(one.grad is not None for one in listed(student))


def test_distillation_at_the_labels_size():
    student, target = given("pixel_kl", 2).requires_grad_(), labels(2, 12, 14)
    with NoWaiting():
        PixelKL(at="labels")(student=student, teacher=given("pixel_kl", 2, seed=1), target=target).backward()
    assert student.grad.any()


@pytest.mark.parametrize("name", TASK_TERMS)
@pytest.mark.parametrize("boundary", [BoundaryAware, DetailGuidance])
def test_losses_on_labels(name, boundary):
    node = TASK_TERMS[name].loss
    known = {}
    if "class_frequencies" in inspect.signature(get_class(node._target_)).parameters:
        known["class_frequencies"] = torch.tensor([50.0, 30.0, 10.0, 9.0, 1.0])
    loss = TaskLoss({"x": instantiate(node, **known)}, {"x": 1.0}, 0.4, boundary())
    logits, edges = torch.randn(2, 5, 6, 7, requires_grad=True), torch.randn(2, 1, 6, 7, requires_grad=True)
    output = SegOutput(logits=logits, aux=(logits * 2,), taps={}, boundary=edges)
    target = labels(2, 12, 14)
    target[:, :, :8] = 1  # no boundary
    with NoWaiting():
        loss(output, target).backward()
    assert logits.grad.any()
    assert edges.grad.any()
