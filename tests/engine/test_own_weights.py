"""Losses with weights and memories of their own are part of the run: optimised, scheduled, saved, never exported."""

import functools

import pytest
import torch

from segdistill.engine.run_folder import RunFolder
from segdistill.engine.terms import TermSpec
from segdistill.losses.kd.cirkd import CrossImage
from segdistill.losses.kd.mgd import MaskedGenerative
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.kd.skd_holistic import Holistic
from segdistill.losses.kd.temperature import Learned
from tests import tiny
from tests.engine.test_resume_exact import COUNT, assert_same_bits, fit

DEEP = {"student": ("deep",), "teacher": ("deep",)}


def made(seed=0, balancing="equal_grad"):
    specs = {
        "cirkd": TermSpec(functools.partial(CrossImage, contrast=8), weight=0.1, **DEEP),
        "mgd": TermSpec(MaskedGenerative, weight=0.1, adapter="conv1x1", **DEEP),
        "skd_holistic": TermSpec(functools.partial(Holistic, width=4), weight=0.1),
        "pixel_kl": TermSpec(lambda: PixelKL(Learned()), weight=0.1),
    }
    return tiny.module(seed=seed, specs=specs, balancing=balancing, ema_decay=0.9, dropout=0.3)


@functools.cache
def unbroken(balancing):
    import tempfile
    from pathlib import Path

    module = made(balancing=balancing)
    before = tiny.clone(module.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        fit(module, Path(folder))
    return before, tiny.clone(module.state_dict()), module


def test_they_are_trained_by_the_run_s_optimiser_on_its_schedule():
    before, after, module = unbroken("uncertainty")
    own = {name for name, _ in module.named_parameters() if name.startswith(("terms.", "balance."))}
    assert {name.split(".")[1] for name in own} == {"cirkd", "mgd", "skd_holistic", "pixel_kl", "log_variance"}
    still = [name for name in own if torch.equal(before[name], after[name])]
    assert still == []
    optimizer = module.optimizers().optimizer
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held >= {id(parameter) for parameter in module.terms.parameters()}
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}  # poly has ended, for every group


def test_memories_fill_and_are_saved():
    _, after, _ = unbroken("equal_grad")
    assert after["terms.cirkd.loss.pixels.filled"].sum() > 0
    assert after["terms.cirkd.loss.regions.entries"].any()
    assert after["balance.norms"].all()


@pytest.mark.parametrize("balancing", ["equal_grad", "gradnorm", "uncertainty"])
@pytest.mark.parametrize("stop", [1, 9])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(tmp_path, stop, balancing):
    fit(made(balancing=balancing), tmp_path, stop=stop)
    resumed = made(seed=1, balancing=balancing)
    fit(resumed, tmp_path, ckpt_path=RunFolder(tmp_path).last)
    assert_same_bits(resumed.state_dict(), unbroken(balancing)[1])


def test_the_student_has_nothing_of_them():
    student = tiny.model()
    assert set(unbroken("equal_grad")[2].student.state_dict()) == set(student.state_dict())


def test_a_learned_temperature_is_told_the_progress():
    module = made()
    seen = []
    tiny.trainer([tiny.Watch(lambda *_: seen.append(module.terms["pixel_kl"].timed[0].strength))]).fit(
        module, tiny.data(train=tiny.Set(COUNT))
    )
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)
