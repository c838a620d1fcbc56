"""What every distillation term in conf/kd has to hold, whoever adds it."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONF = Path(__file__).parents[3] / "conf"


def composed(choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+kd={choice}"]).kd.terms


TERMS = {
    f"{path.stem}:{name}": term
    for path in sorted((CONF / "kd").glob("*.yaml"))
    for name, term in composed(path.stem).items()
    if "loss" in OmegaConf.load(path).get("terms", {}).get(name, {})  # recipes are made of these
}
IGNORED = (slice(None), slice(0, 4), slice(None))  # at label size; the top row of a map of half the size and less


@pytest.fixture(params=TERMS)
def loss(request):
    return instantiate(TERMS[request.param].loss)


def maps(*shape, seed=0, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labels(*shape):
    target = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(9))
    target[IGNORED] = 255
    return target


def test_terms_are_found():
    assert {"pixel_kl:pixel_kl", "cwd:cwd", "cwd_feature:cwd_feature"} <= set(TERMS)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_terms_have_the_same_keys(term):
    assert set(term) == {"loss", "weight", "student", "teacher", "adapter", "schedule"}
    assert set(term.schedule) == {"warmup", "decay", "stop_at"}


def test_zero_when_the_student_is_the_teacher(loss):
    same = maps(2, 5, 6, 7)
    assert loss(student=same, teacher=same.clone(), target=labels(2, 12, 14)).item() == pytest.approx(0, abs=1e-12)


def test_positive_otherwise(loss):
    assert loss(student=maps(1, 5, 3, 3), teacher=maps(1, 5, 3, 3, seed=1), target=labels(1, 9, 9)) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for_extreme_values(loss, dtype):
    student = maps(2, 5, 6, 7, dtype=dtype, scale=200).requires_grad_()
    with torch.autocast(
        "cpu", dtype=torch.float16 if dtype is torch.float16 else torch.bfloat16, enabled=dtype.itemsize == 2
    ):
        value = loss(
            student=student, teacher=maps(2, 5, 6, 7, seed=1, dtype=dtype, scale=200), target=labels(2, 12, 14)
        )
    value.backward()
    assert value.dtype is torch.float32
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_half_precision_is_raised_before_it_is_used(loss):
    student, teacher, target = maps(2, 5, 6, 7).half(), maps(2, 5, 6, 7, seed=1).half(), labels(2, 12, 14)
    raised = loss(student=student.double(), teacher=teacher.double(), target=target)
    with torch.autocast("cpu", dtype=torch.float16):
        assert loss(student=student, teacher=teacher, target=target).item() == pytest.approx(raised.item(), rel=1e-4)


def test_gradient_to_the_student_never_the_teacher(loss):
    student, teacher = maps(2, 5, 6, 7).requires_grad_(), maps(2, 5, 6, 7, seed=1).requires_grad_()
    loss(student=student, teacher=teacher, target=labels(2, 12, 14)).backward()
    assert student.grad.any()
    assert teacher.grad is None


def test_gradcheck(loss):
    teacher, target = maps(2, 3, 3, 2, seed=1), labels(2, 6, 4)
    target[1, -1, -1] = 0
    student = maps(2, 3, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(student=s, teacher=teacher, target=target), student)


def test_what_lies_under_ignored_pixels_does_not_matter(loss):
    student, teacher, target = maps(2, 5, 6, 7), maps(2, 5, 6, 7, seed=1), labels(2, 12, 14)
    before = loss(student=student, teacher=teacher, target=target)
    student[:, :, :2], teacher[:, :, :2] = 1e4, -1e4
    assert loss(student=student, teacher=teacher, target=target).item() == before.item()


def test_attached_zero_when_all_is_ignored(loss):
    student = maps(2, 5, 6, 7).requires_grad_()
    value = loss(student=student, teacher=maps(2, 5, 6, 7, seed=1), target=torch.full((2, 12, 14), 255))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_the_order_of_the_batch_does_not_matter(loss):
    student, teacher, target = maps(4, 5, 6, 7), maps(4, 5, 6, 7, seed=1), labels(4, 12, 14)
    order = torch.tensor([2, 0, 3, 1])
    value = loss(student=student[order], teacher=teacher[order], target=target[order])
    assert value.item() == pytest.approx(loss(student=student, teacher=teacher, target=target).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("choice", "terms"),
    [
        ("none", set()),
        ("logits", {"pixel_kl", "cwd"}),
        ("feature", {"cwd_feature"}),
        ("hybrid", {"pixel_kl", "cwd", "cwd_feature"}),
        ("[cwd,pixel_kl]", {"pixel_kl", "cwd"}),
    ],
)
def test_recipes_compose(choice, terms):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        assert set(compose(overrides=[f"+kd={choice}"]).kd.terms) == terms
