import functools

import pytest
import torch
from torch import nn

from segdistill.engine.schedules import TermSchedule
from segdistill.engine.terms import TermSpec, build_terms, named_arguments, same_grid
from segdistill.errors import UserError
from segdistill.losses.kd.at import AttentionTransfer
from segdistill.losses.kd.cwd import ChannelWise
from segdistill.losses.kd.pixel_kl import PixelKL
from tests import tiny


class Told(nn.Module):
    """Keeps what it was given."""

    def __init__(self, student_channels, teacher_channels, num_classes, alpha=1.0):
        super().__init__()
        self.told = (student_channels, teacher_channels, num_classes, alpha)

    def forward(self, *, student, teacher, target):
        self.given = (student, teacher)
        return torch.zeros(())


def build(specs, student=None, teachers=None):
    return build_terms(
        specs,
        student or tiny.model(),
        teachers or {"main": tiny.teacher()},
        crop=tiny.CROP,
        num_classes=tiny.CLASSES,
    )


def both(image, student, teacher):
    return student(image), {"main": teacher(image)}


@pytest.mark.parametrize(("tap", "channels"), [("low", (4, 6)), ("deep", (8, 12)), ("logits", (3, 3))])
def test_an_adapter_has_the_channels_that_the_dry_run_found(tap, channels):
    spec = TermSpec(ChannelWise, student=(tap,), teacher=(tap,), adapter="conv1x1")
    student, teacher = tiny.model(), tiny.teacher()
    terms = build({"x": spec}, student, {"main": teacher})
    conv = terms["x"].adapters[0]
    assert (conv.in_channels, conv.out_channels) == channels
    assert conv.kernel_size == (1, 1)
    target = torch.zeros(2, *tiny.CROP, dtype=torch.long)
    loss = terms["x"](*both(torch.rand(2, 3, *tiny.CROP), student, teacher), target)
    loss.backward()
    assert conv.weight.grad.abs().sum() > 0
    assert sum(parameter.numel() for parameter in terms.parameters()) == channels[0] * channels[1]


def test_without_an_adapter_a_term_has_no_parameters():
    assert list(build({"x": TermSpec(PixelKL)}).parameters()) == []


@pytest.mark.parametrize(("student_tap", "teacher_tap"), [("low", "deep"), ("deep", "low")])
def test_taps_of_different_size_meet_at_the_smaller(student_tap, teacher_tap):
    spec = TermSpec(Told, student=(student_tap,), teacher=(teacher_tap,), adapter="conv1x1")
    student, teacher = tiny.model(), tiny.teacher()
    term = build({"x": spec}, student, {"main": teacher})["x"]
    term(*both(torch.rand(2, 3, 16, 24), student, teacher), None)
    mine, theirs = term.loss.given
    assert mine.shape == theirs.shape
    assert mine.shape[-2:] == (4, 6)


def test_same_grid_leaves_the_smaller_alone():
    small, large = torch.rand(1, 2, 3, 4), torch.rand(1, 5, 6, 8)
    first, second = same_grid(small, large)
    assert first is small
    assert second.shape == (1, 5, 3, 4)
    first, second = same_grid(large, small)
    assert second is small
    assert first.shape == (1, 5, 3, 4)
    assert same_grid(large, large)[0] is large


@pytest.mark.parametrize("training", [True, False])
def test_the_dry_run_leaves_no_trace(training):
    student, teacher = tiny.model(dropout=0.5).train(training), tiny.teacher()
    before, generator = tiny.clone(student.state_dict()), torch.get_rng_state()
    build({"x": TermSpec(AttentionTransfer, student=("deep",), teacher=("deep",))}, student, {"main": teacher})
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert student.training == training
    assert all(module.training == training for module in student.modules())
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_term_of_weight_zero_is_not_built_nor_its_tap_recorded():
    specs = {"off": TermSpec(PixelKL, weight=0.0, student=("deep",), teacher=("nowhere",)), "on": TermSpec(PixelKL)}
    student = tiny.model()
    assert list(build(specs, student)) == ["on"]
    assert set(student(torch.rand(1, 3, 16, 16)).taps) == {"logits"}


def test_a_list_of_taps_gives_the_loss_lists_and_a_single_one_plain_values():
    specs = {
        "several": TermSpec(Told, student=("low", "deep"), teacher=("low", "deep"), adapter="conv1x1"),
        "single": TermSpec(functools.partial(Told, alpha=3.0), student=("low",), teacher=("deep",)),
    }
    student, teacher = tiny.model(), tiny.teacher()
    terms = build(specs, student, {"main": teacher})
    assert terms["several"].loss.told == ([4, 8], [6, 12], tiny.CLASSES, 1.0)
    assert terms["single"].loss.told == (4, 12, tiny.CLASSES, 3.0)
    outputs = both(torch.rand(2, 3, 16, 24), student, teacher)
    for term in terms.values():
        term(*outputs, None)
    mine, theirs = terms["several"].loss.given
    assert [x.shape[1] for x in mine] == [x.shape[1] for x in theirs] == [6, 12]
    assert isinstance(terms["single"].loss.given[0], torch.Tensor)


def test_a_tap_may_name_its_teacher():
    student, teachers = tiny.model(), {"main": tiny.teacher(1), "other": tiny.teacher(2, width=9)}
    specs = {
        "a": TermSpec(Told, student=("deep",), teacher=("main/deep",)),
        "b": TermSpec(Told, student=("deep",), teacher=("other/low",)),
        "c": TermSpec(Told, student=("deep",), teacher=("deep",)),
    }
    terms = build(specs, student, teachers)
    assert [term.loss.told[1] for term in terms.values()] == [12, 9, 12]
    image = torch.rand(1, 3, 16, 24)
    outputs = {name: teacher(image) for name, teacher in teachers.items()}
    assert [set(output.taps) for output in outputs.values()] == [{"deep"}, {"low"}]
    for term in terms.values():
        term(student(image), outputs, None)
    assert torch.equal(terms["a"].loss.given[1], terms["c"].loss.given[1])
    assert terms["b"].loss.given[1].shape[1] == 9


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_an_unknown_tap_is_refused_with_those_there_are(side):
    with pytest.raises(UserError, match=r"'nowhere' is no tap of Net; its taps: logits, low, deep"):
        build({"x": TermSpec(PixelKL, **{side: ("nowhere",)})})


def test_different_numbers_of_taps_are_refused():
    with pytest.raises(UserError, match=r"kd.terms.x has 2 student tap\(s\).*1 teacher tap\(s\).*as many of each"):
        build({"x": TermSpec(PixelKL, student=("low", "deep"), teacher=("deep",))})


def test_the_weight_follows_the_schedule():
    term = build({"x": TermSpec(PixelKL, weight=3.0, schedule=TermSchedule(warmup=0.5, stop_at=0.9))})["x"]
    assert [term.weight(p) for p in (0.0, 0.25, 0.6, 0.95)] == pytest.approx([0, 1.5, 3, 0])


def test_named_arguments_are_those_that_are_named_and_free():
    known = {"student_channels": 1, "num_classes": 2}
    assert named_arguments(Told, known) == known
    assert named_arguments(functools.partial(Told, num_classes=9), known) == {"student_channels": 1}
    assert named_arguments(PixelKL, known) == {}
