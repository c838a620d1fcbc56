"""Student and losses are one graph, with the numbers of a step that is not compiled."""

import copy
import dataclasses
import functools

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch._dynamo.testing import CompileCounter

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.engine.compiling import Way, compute
from segdistill.engine.schedules import TermSchedule
from segdistill.engine.terms import TermSpec, raw_losses
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.temperature import Learned, Scheduled
from segdistill.run import build_module
from tests import tiny
from tests.e2e.conftest import TINY
from tests.e2e.test_configs import GROUPS


def assert_one_graph(module, image, mask):
    """Compiling a copy's losses (nothing is generated: that is the compiler's own matter) changes no bit of a step."""
    torch.compiler.reset()
    compiled = torch.compile(raw_losses, backend="eager", fullgraph=True)
    values = []
    for losses, copied in ((raw_losses, module), (compiled, copy.deepcopy(module))):
        torch.manual_seed(1)
        with torch.no_grad():
            teachers = {name: teacher(image) for name, teacher in module.teachers.items()}
        found = losses(copied.student, copied.task, dict(copied.terms.items()), image, teachers, mask)
        sum(found.values()).backward()
        values.append((found, {name: p.grad for name, p in copied.named_parameters()}, dict(copied.named_buffers())))
    (eager, gradients, buffers), (traced, traced_gradients, traced_buffers) = values
    torch.testing.assert_close(traced, eager)
    for name in gradients:
        torch.testing.assert_close(traced_gradients[name], gradients[name])
    for name in buffers:
        torch.testing.assert_close(traced_buffers[name], buffers[name])


def test_a_step_is_one_graph():
    image, mask = torch.rand(2, 3, *tiny.CROP), torch.randint(0, tiny.CLASSES, (2, *tiny.CROP))
    mask[:, :3] = 255
    assert_one_graph(tiny.module(aux=True, dropout=0.1), image, mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [*(f"kd={name}" for name in GROUPS["kd"]), *(f"loss=[{name}]" for name in GROUPS["loss"]), "student=pidnet_s"],
)
def test_every_recipe_is_one_graph(tmp_path, chosen):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = [*TINY, "teacher.checkpoint=null", "teacher.refuse_below=0", f"paths.outputs={tmp_path}", chosen]
        cfg = compose("train", overrides=overrides)
    sets = build.datasets(cfg)
    module = build_module(cfg, sets, build.student(cfg, sets)).module.train()
    mask = torch.randint(0, cfg.num_classes, (2, 64, 64))
    mask[:, :9] = 255
    for part in (module, *module.teachers.values()):
        part.double()  # eager computes the loss on labels in strips, a graph as a whole: float32 would round otherwise
    assert_one_graph(module, torch.rand(2, 3, 64, 64, dtype=torch.float64), mask)


@pytest.mark.parametrize("temperature", [Scheduled, Learned])
def test_a_temperature_that_moves_does_not_compile_again_and_again(temperature):
    torch.compiler.reset()
    module = tiny.module(specs={"kl": TermSpec(functools.partial(PixelKL, temperature=temperature()))})
    counter = CompileCounter()
    compiled = torch.compile(raw_losses, backend=counter, fullgraph=True)
    image, mask = torch.rand(2, 3, *tiny.CROP), torch.randint(0, tiny.CLASSES, (2, *tiny.CROP))
    teachers = {name: teacher(image) for name, teacher in module.teachers.items()}
    for step in range(4):
        module.terms["kl"].at(step / 4)
        given = module.student, module.task, dict(module.terms.items()), image, teachers, mask
        torch.testing.assert_close(compiled(*given), raw_losses(*given))
    assert counter.frame_count <= 2  # the number becomes an input when it first changes


def test_a_run_that_is_compiled_trains_what_one_does_that_is_not(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    late = dataclasses.replace(tiny.SPECS["cwd"], schedule=TermSchedule(warmup=0.5))  # measured after ordinary steps
    states = []
    for way in (Way(), Way(compile=True), Way(channels_last=True, compile=True)):
        module = tiny.module(specs={**tiny.SPECS, "cwd": late}, balancing="equal_grad", dropout=0.1)
        compute(module, way)
        tiny.trainer(epochs=1).fit(module, tiny.data())
        states.append(tiny.clone(module.state_dict()))
    for state in states[1:]:
        for name, value in states[0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5)


def test_on_several_devices_the_student_is_compiled_alone(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    module = tiny.module()
    compute(module, Way(compile=True), devices=2)
    assert module.raw_losses is raw_losses
    assert module.student._compiled_call_impl is not None
