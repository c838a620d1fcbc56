"""What every distillation term in conf/kd has to hold, whoever adds it."""

import inspect

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object

from tests.losses.kd.terms import CONF, RECIPES, TERMS, composed, each, given, labels, listed, make, transparent

WANTED = set(
    "pixel_kl cwd cwd_feature fitnet at skd_pairwise skd_holistic ifvd cirkd dist dkd mgd bpkd afdcd rkd spkd ickd "
    "reviewkd lskd fam crosskd prototype".split()
)
SIGNED = {"skd_holistic"}  # a difference of a critic's scores: 0 for equal maps, of any sign otherwise


@pytest.fixture(params=TERMS)
def name(request):
    return request.param


def test_every_method_has_a_term_and_a_recipe_of_its_name():
    assert set(TERMS) >= WANTED
    assert {path.stem for path in RECIPES} >= WANTED
    for method in WANTED:
        assert set(composed(method)) == {method}


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_terms_have_the_same_keys(term):
    assert set(term) == {"loss", "weight", "student", "teacher", "adapter", "schedule", "mask"}
    assert set(term.schedule) == {"warmup", "decay", "stop_at"}


def test_the_docstring_says_what_one_has_to_know(name):
    made = get_object(TERMS[name].loss._target_)
    words = ["Reduction:", "Converting a published lambda", "20"]  # the last is the year of its source
    if "__init__" in vars(made):
        words.append("Args:")
    for word in words:
        assert word in inspect.getdoc(made)


def test_zero_when_the_student_is_the_teacher(name):
    same = given(name, 2)
    value = transparent(make(name))(student=same, teacher=each(same, torch.clone), target=labels(2, 12, 14))
    assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3])
def test_positive_otherwise(name, n):
    value = make(name)(student=given(name, n), teacher=given(name, n, seed=1), target=labels(n, 12, 14))
    assert value != 0 if name in SIGNED else value > 0


def test_a_single_image_and_odd_sizes(name):
    value = make(name)(
        student=given(name, 1, 5, 9, 5), teacher=given(name, 1, 5, 9, 5, seed=1), target=labels(1, 35, 21)
    )
    assert value.isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for_extreme_values(name, dtype):
    student = each(given(name, 2, dtype=dtype, scale=200), lambda x: x.requires_grad_())
    half = torch.float16 if dtype is torch.float16 else torch.bfloat16
    with torch.autocast("cpu", dtype=half, enabled=dtype.itemsize == 2):
        value = make(name, dtype=torch.float32)(
            student=student, teacher=given(name, 2, seed=1, dtype=dtype, scale=200), target=labels(2, 12, 14)
        )
    value.backward()
    assert value.dtype is torch.float32
    assert value.isfinite()
    for one in listed(student):
        assert one.grad.isfinite().all()


def test_dead_pixels_do_not_outweigh_the_others(name):
    """Where a student's features are all 0 the gradient is finite and not a million times that of the others."""
    student = given(name, 2)
    for one in listed(student):
        one[:, :, -1, :2] = 0
        one.requires_grad_()
    make(name)(student=student, teacher=given(name, 2, seed=1), target=labels(2, 12, 14)).backward()
    for one in listed(student):
        dead, others = one.grad[:, :, -1, :2].abs().amax(), one.grad[:, :, -1, 2:].abs().amax()
        assert dead <= 1e6 * others


def test_half_precision_is_raised_before_it_is_used(name):
    student, teacher, target = given(name, 2), given(name, 2, seed=1), labels(2, 12, 14)
    student, teacher = each(student, torch.Tensor.half), each(teacher, torch.Tensor.half)
    raised = make(name)(
        student=each(student, torch.Tensor.double), teacher=each(teacher, torch.Tensor.double), target=target
    )
    assert raised.dtype is torch.float64
    with torch.autocast("cpu", dtype=torch.float16):
        value = make(name, dtype=torch.float32)(student=student, teacher=teacher, target=target)
    assert value.item() == pytest.approx(raised.item(), rel=1e-3)


def test_gradient_to_the_student_never_the_teacher(name):
    student = each(given(name, 2), lambda x: x.requires_grad_())
    teacher = each(given(name, 2, seed=1), lambda x: x.requires_grad_())
    make(name).train()(student=student, teacher=teacher, target=labels(2, 12, 14)).backward()
    assert any(one.grad.any() for one in listed(student))
    assert all(one.grad is None for one in listed(teacher))


def test_own_weights_learn(name):
    loss = make(name).train()
    loss(student=given(name, 2), teacher=given(name, 2, seed=1), target=labels(2, 12, 14)).sum()
    value = loss(student=given(name, 2), teacher=given(name, 2, seed=1), target=labels(2, 12, 14))
    if list(loss.parameters()):
        value.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_gradcheck(name):
    loss, target = make(name, channels=3, num_classes=3), labels(2, 9, 6, classes=3)
    teacher = given(name, 2, 3, 3, 2, seed=1)

    def value(*student):
        return loss(student=list(student) if isinstance(teacher, list) else student[0], teacher=teacher, target=target)

    student = [one.requires_grad_() for one in listed(given(name, 2, 3, 3, 2))]
    assert torch.autograd.gradcheck(value, student)


@pytest.mark.parametrize("name", [name for name in TERMS if "ratio" in TERMS[name].loss])
def test_gradcheck_with_seeded_masks(name):
    loss, target = make(name, channels=3, num_classes=3).train(), labels(2, 9, 6, classes=3)
    teacher = given(name, 2, 3, 3, 2, seed=1)

    def value(student):
        torch.manual_seed(3)
        return loss(student=student, teacher=teacher, target=target)

    assert torch.autograd.gradcheck(value, given(name, 2, 3, 3, 2).requires_grad_())


@pytest.mark.parametrize("other", [1e4, torch.inf, torch.nan])
def test_what_lies_under_ignored_pixels_does_not_matter(name, other):
    student, teacher, target = given(name, 2), given(name, 2, seed=1), labels(2, 12, 14)
    loss = make(name)
    before = loss(student=student, teacher=teacher, target=target)
    for maps, wrong in ((student, other), (teacher, -other)):
        for one in listed(maps):
            rows = sum(1 for row in range(one.shape[2]) if row * 12 // one.shape[2] < 4)
            one[:, :, :rows] = wrong
            one.requires_grad_()
    value = loss(student=student, teacher=teacher, target=target)
    value.backward()
    assert value.item() == pytest.approx(before.item(), rel=1e-12)
    assert all(one.grad.isfinite().all() for one in listed(student))


def test_attached_zero_when_all_is_ignored(name):
    student = each(given(name, 2), lambda x: x.requires_grad_())
    value = make(name).train()(student=student, teacher=given(name, 2, seed=1), target=torch.full((2, 12, 14), 255))
    value.backward()
    assert value.item() == 0
    for one in listed(student):
        assert one.grad is not None
        assert not one.grad.any()


def test_the_order_of_the_batch_does_not_matter(name):
    student, teacher, target = given(name, 4), given(name, 4, seed=1), labels(4, 12, 14)
    order, loss = torch.tensor([2, 0, 3, 1]), make(name)
    value = loss(
        student=each(student, lambda x: x[order]), teacher=each(teacher, lambda x: x[order]), target=target[order]
    )
    expected = loss(student=student, teacher=teacher, target=target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("name", [name for name in TERMS if "temperature" in TERMS[name].loss])
def test_impossible_temperatures_are_refused(name):
    with pytest.raises(ValueError, match=r"temperature=-1.*above 0"):
        make(name, temperature=-1.0)


@pytest.mark.parametrize(
    ("choice", "terms"),
    [
        ("none", set()),
        ("logits", {"pixel_kl", "cwd"}),
        ("feature", {"cwd_feature"}),
        ("hybrid", {"cwd_feature", "cwd_context"}),
        ("[cwd,pixel_kl]", {"pixel_kl", "cwd"}),
    ],
)
def test_recipes_compose(choice, terms):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        assert set(compose(overrides=[f"+kd={choice}"]).kd.terms) == terms
