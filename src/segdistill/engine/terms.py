"""A distillation term: a loss, the taps it compares, an adapter, a weight on a schedule.

Losses are plain modules that know nothing of this; the engine aligns channels and size before it calls them.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.engine.balance import TASK
from segdistill.engine.masks import PixelMask
from segdistill.engine.objective import TaskLoss
from segdistill.engine.schedules import TermSchedule
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput

RESERVED = (TASK, "loss", "balance")


@dataclass(frozen=True)
class TermSpec:
    """What a term's yaml says.

    Attributes:
        loss: makes the loss; is given ``student_channels``, ``teacher_channels``, ``num_classes`` or ``teacher_head``
            (the frozen function from the teacher's tap to its logits) if it names them.
        weight: factor on the loss in its own scale (see the loss's docstring).
        student, teacher: tap names; a teacher's tap may be written ``name/tap``.
        adapter: ``conv1x1`` brings the student's channels to the teacher's, ``none`` leaves them.
        schedule: factor on the weight over the training.
        mask: which pixels it looks at.
    """

    loss: Callable[..., nn.Module]
    weight: float = 1.0
    student: tuple[str, ...] = ("logits",)
    teacher: tuple[str, ...] = ("logits",)
    adapter: str = "none"
    schedule: TermSchedule = field(default_factory=TermSchedule)
    mask: PixelMask = field(default_factory=PixelMask)


class Term(nn.Module):
    """One term of a recipe, built for the shapes that a dry run found.

    ``given`` is what its loss may name beside the channels.
    """

    def __init__(
        self, spec: TermSpec, student: Sequence[Tensor], teacher: Sequence[Tensor], given: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.spec = spec
        pairs = list(zip(student, teacher, strict=True))
        self.shapes = [tuple(tap.shape[1:]) for tap in student]  # of the student's maps
        known: dict[str, Any] = {
            "student_channels": [s.shape[1] for s in student],
            "teacher_channels": [t.shape[1] for t in teacher],
        }
        if len(pairs) == 1:
            known = {name: channels[0] for name, channels in known.items()}
        try:
            self.loss = spec.loss(**named_arguments(spec.loss, {**known, **given}))
        except ValueError as error:  # an argument out of its range
            raise UserError(f"{getattr(spec.loss, 'func', spec.loss).__name__}: {error}") from error
        adapts = spec.adapter == "conv1x1"
        sides = [(s.shape[1], t.shape[1]) for s, t in pairs]
        self.adapters = nn.ModuleList(nn.Conv2d(s, t, 1, bias=False) if adapts else nn.Identity() for s, t in sides)
        self.timed = [module for module in self.loss.modules() if hasattr(module, "at")]  # e.g. a scheduled temperature

    def forward(self, student: SegOutput, teachers: Mapping[str, SegOutput], target: Tensor) -> Tensor:
        """The loss in its own scale, without the weight; ``target`` (N, H, W) holds 255 where nothing counts."""
        mine = [adapt(student.taps[name]) for adapt, name in zip(self.adapters, self.spec.student, strict=True)]
        theirs = [_teacher_tap(teachers, name) for name in self.spec.teacher]
        pairs = [same_grid(s, t) for s, t in zip(mine, theirs, strict=True)]
        target = self.spec.mask(target, student.logits, teachers[split_tap(self.spec.teacher[0])[0]].logits)
        if len(pairs) == 1:
            value: Tensor = self.loss(student=pairs[0][0], teacher=pairs[0][1], target=target)
        else:
            value = self.loss(student=[s for s, _ in pairs], teacher=[t for _, t in pairs], target=target)
        return value

    def at(self, progress: float) -> float:
        """Tell the loss's schedules where the training is; returns the weight there."""
        for module in self.timed:
            module.at(progress)  # type: ignore[operator]  # by name, as for every module with a schedule of its own
        return self.weight(progress)

    def weight(self, progress: float) -> float:
        """The weight at ``progress`` in [0, 1] of the training."""
        return self.spec.weight * self.spec.schedule.factor(progress)


def raw_losses(
    student: SegModel,
    task: TaskLoss,
    terms: Mapping[str, Term],
    image: Tensor,
    teachers: Mapping[str, SegOutput],
    target: Tensor,
) -> dict[str, Tensor]:
    """The loss on labels and that of each of ``terms``, unweighted: what of a step can be compiled as one.

    Args:
        student: gets ``image`` (N, 3, H, W) in [0, 1].
        task: the loss on labels.
        terms: those that are computed.
        image: the views.
        teachers: what each teacher says of them.
        target: (N, H, W) labels.
    """
    output = student(image)
    values = {name: term(output, teachers, target) for name, term in terms.items()}
    return {TASK: task(output, target), **values}


def same_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the larger of two maps to the size of the smaller (bilinear, like the upsampling of logits)."""
    size = min(student.shape[-2:], teacher.shape[-2:], key=lambda hw: hw[0] * hw[1])
    resized = [
        x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        for x in (student, teacher)
    ]
    return resized[0], resized[1]


def named_arguments(factory: Callable[..., object], known: Mapping[str, object]) -> dict[str, object]:
    """Those of ``known`` that ``factory`` (a class or a partial of one) names and that are not bound yet."""
    target = getattr(factory, "func", factory)
    names = inspect.signature(target).parameters
    bound = getattr(factory, "keywords", {})
    return {name: value for name, value in known.items() if name in names and name not in bound}


def split_tap(name: str) -> tuple[str, str]:
    """``teacher/tap`` -> (teacher, tap); a bare tap belongs to the teacher ``main``."""
    teacher, _, tap = name.rpartition("/")
    return teacher or "main", tap


def _teacher_tap(teachers: Mapping[str, SegOutput], name: str) -> Tensor:
    teacher, tap = split_tap(name)
    return teachers[teacher].taps[tap]


def build_terms(
    specs: Mapping[str, TermSpec],
    student: SegModel,
    teachers: Mapping[str, Teacher],
    *,
    crop: tuple[int, int],
    num_classes: int,
) -> nn.ModuleDict:
    """Record the taps that the terms name and build adapters and losses from one dry run.

    The dry run is in eval, under ``no_grad`` and a forked generator: it changes neither weights nor statistics nor what
    the rest of the run will draw. Terms whose weight is 0 for the whole run are not built.

    Raises:
        UserError: a tap does not exist, a term names different numbers of student and teacher taps, or its loss cannot
            compare these maps.
    """
    specs = {name: spec for name, spec in specs.items() if spec.weight != 0}
    for name, spec in specs.items():
        if name in RESERVED:
            raise UserError(f"kd.terms.{name}: the losses' sum has a part of that name; call the term something else")
        if len(spec.student) != len(spec.teacher):
            raise UserError(
                f"kd.terms.{name} has {len(spec.student)} student tap(s) {list(spec.student)} and {len(spec.teacher)} "
                f"teacher tap(s) {list(spec.teacher)}; give as many of each"
            )
    student.record({tap for spec in specs.values() for tap in spec.student})
    for teacher_name, teacher in teachers.items():
        wanted = [split_tap(tap) for spec in specs.values() for tap in spec.teacher]
        teacher.model.record({tap for name, tap in wanted if name == teacher_name})
    unknown = sorted({split_tap(tap)[0] for spec in specs.values() for tap in spec.teacher} - teachers.keys())
    if unknown:
        raise UserError(f"kd names the teacher(s) {', '.join(unknown)}; there is {', '.join(teachers) or 'none'}")
    image = torch.zeros(1, 3, *crop)
    was_training = student.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        mine = student.eval()(image)
        theirs = {name: teacher(image) for name, teacher in teachers.items()}
        student.train(was_training)
    terms = {}
    for name, spec in specs.items():
        given: dict[str, Any] = {"num_classes": num_classes}
        if named_arguments(spec.loss, {"teacher_head": None}):
            teacher_name, tap = split_tap(spec.teacher[0])
            given["teacher_head"] = teachers[teacher_name].head_after(tap, image)
        there = [mine.taps[tap] for tap in spec.student], [_teacher_tap(theirs, tap) for tap in spec.teacher]
        terms[name] = Term(spec, *there, given)
        _try(name, terms[name], mine, theirs, torch.zeros(1, *crop, dtype=torch.long))
    return nn.ModuleDict(terms)


def _try(name: str, term: Term, student: SegOutput, teachers: Mapping[str, SegOutput], target: Tensor) -> None:
    """Raise a UserError where the loss cannot compare these maps."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            term.eval()(student, teachers, target)
    except ValueError as error:
        raise UserError(f"kd.terms.{name}: {error}") from error
    term.train()
