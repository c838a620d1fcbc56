import numpy as np
import pytest
import torch
from torch import nn

from segdistill.data.augment import Augment, sample_views
from segdistill.engine.ema import average_of
from segdistill.engine.objective import TaskLoss
from segdistill.engine.schedules import LearningRate, TermSchedule
from segdistill.engine.terms import TermSpec
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.task.cross_entropy import CrossEntropy
from segdistill.metrics.confusion import resize_logits
from tests import tiny


def fit(module, look=lambda *_: None, *, epochs=1, data=None, **options):
    trainer = tiny.trainer([tiny.Watch(look)], epochs=epochs, **options)
    trainer.fit(module, data or tiny.data())
    return trainer


def test_the_optimiser_holds_student_and_adapters_only():
    module = tiny.module(ema_decay=0.9, aux=True)
    fit(module)
    held = {id(p) for group in module.optimizers().param_groups for p in group["params"]}
    adapters = list(module.terms["cwd"].adapters.parameters())
    assert len(adapters) == 1
    assert held == {id(p) for p in [*module.student.parameters(), *adapters]}


def test_both_learn():
    module = tiny.module()
    before = tiny.clone(dict(module.named_parameters()))
    fit(module)
    assert [name for name, p in module.named_parameters() if torch.equal(p, before[name])] == []


def test_biases_and_norms_have_no_weight_decay():
    module = tiny.module()
    fit(module)
    for group in module.optimizers().param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_all_groups_follow_the_schedule(accumulate):
    schedule = LearningRate("poly", power=0.9, warmup=0.2, floor=0.05)
    module = tiny.module(lr=0.1, learning_rate=schedule)
    rates = {}

    def look(trainer, module, batch):
        # the rate that the next step will use
        rates[trainer.global_step] = [group["lr"] for group in trainer.optimizers[0].param_groups]

    trainer = fit(module, look, epochs=3, accumulate_grad_batches=accumulate)
    assert trainer.global_step == module.total_steps == 3 * -(-6 // accumulate)
    rates.pop(0, None)
    assert len(rates) == module.total_steps
    for step, groups in rates.items():
        expected = 0.1 * schedule.factor(min(1.0, (step + 1) / module.total_steps))
        assert groups == pytest.approx([expected] * 2)


def test_the_average_is_the_one_by_hand():
    decay, steps, averages, module = 0.25, [], [], tiny.module(ema_decay=0.25)

    def look(trainer, module, batch):
        steps.append(tiny.clone(module.student.state_dict()))
        averages.append(tiny.clone(module.ema.state_dict()))

    fit(module, look)
    expected = steps[0]
    for n, (current, average) in enumerate(zip(steps, averages, strict=True)):
        if n:
            keep = min(decay, (1 + n) / (10 + n))
            expected = {
                name: keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value
                for name, value in current.items()
            }
        for name, value in average.items():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    assert (1 + 1) / (10 + 1) < decay < (1 + 5) / (10 + 5)  # both branches of the decay were seen
    assert not torch.equal(averages[-1]["network.head.weight"], steps[-1]["network.head.weight"])
    assert module.scored is module.ema


def test_the_average_records_no_taps_and_needs_no_gradient():
    student = tiny.model()
    student.record(["deep"])
    average = average_of(student)
    image = torch.rand(1, 3, 16, 16)
    assert average(image).taps == {}
    assert set(student(image).taps) == {"deep"}
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in student.parameters())


class Constant(nn.Module):
    """A distillation loss of a known value."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, *, student, teacher, target):
        return self.value + 0 * student.sum()


def test_the_loss_is_the_task_plus_the_weighted_terms():
    def five():
        return Constant(5.0)

    def seven():
        return Constant(7.0)

    specs = {
        "a": TermSpec(five, weight=2.0),
        "b": TermSpec(seven, weight=3.0, schedule=TermSchedule(stop_at=0.5)),
        "kl": TermSpec(PixelKL, weight=0.5),
    }
    module, seen = tiny.module(specs=specs, aux=True), []

    def look(trainer, module, batch):
        seen.append({name: float(value) for name, value in module.latest.items()})

    fit(module, look)
    assert len(seen) == 6
    for step, losses in enumerate(seen):
        assert losses["train/kd/a"] == pytest.approx(10)
        assert losses.get("train/kd/b") == (pytest.approx(21) if step < 3 else None)  # not even computed
        assert losses["train/kd/kl"] > 0
        parts = [value for name, value in losses.items() if name != "train/loss"]
        assert losses["train/loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_the_first_steps_losses_are_those_computed_by_hand():
    module, twin, seen = tiny.module(aux=True), tiny.module(aux=True), []
    fit(module, lambda trainer, module, batch: seen.append((batch, dict(module.latest))))
    batch, losses = seen[0]
    twin.train()
    output, target = twin.student(batch.image), batch.mask
    task = sum(
        weight * CrossEntropy()(resize_logits(logits, target.shape[-2:]), target)
        for weight, logits in [(1.0, output.logits), (0.4, output.aux[0])]
    )
    torch.testing.assert_close(losses["train/task"], task.detach())
    teachers = {"main": twin.teachers["main"](batch.image)}
    kl = PixelKL()(student=output.logits, teacher=teachers["main"].logits, target=target)
    torch.testing.assert_close(losses["train/kd/pixel_kl"], 0.5 * kl.detach())
    cwd = 2.0 * twin.terms["cwd"](output, teachers, target)
    torch.testing.assert_close(losses["train/kd/cwd"], cwd.detach())


def test_task_losses_are_weighted():
    class One(nn.Module):
        def forward(self, logits, target):
            assert logits.shape[-2:] == target.shape[-2:]
            return torch.ones(())

    task = TaskLoss({"x": One(), "y": One()}, {"x": 2.0, "y": 0.5}, aux_weight=0.1)
    output = tiny.model(aux=True)(torch.rand(2, 3, 16, 16))
    assert float(task(output, torch.zeros(2, 16, 16))) == pytest.approx(2.5 * 1.1)
    assert float(task(output._replace(aux=()), torch.zeros(2, 16, 16))) == pytest.approx(2.5)


def test_without_terms_there_is_no_teacher():
    module, seen = tiny.module(specs={}), []
    fit(module, lambda trainer, module, batch: seen.append(set(module.latest)))
    assert seen[0] == {"train/task", "train/loss"}


def test_a_checkpoint_holds_student_terms_and_average_and_no_teacher(tmp_path):
    module = tiny.module(ema_decay=0.9)
    fit(module).save_checkpoint(tmp_path / "c.ckpt")
    keys = torch.load(tmp_path / "c.ckpt", weights_only=False)["state_dict"].keys()
    assert {key.split(".")[0] for key in keys} == {"student", "terms", "ema", "balance"}
    assert {"terms.cwd.adapters.0.weight", "student.network.head.weight", "ema.network.head.weight"} <= keys


@pytest.mark.parametrize("size", [tiny.SIZE, tiny.CROP])
def test_whole_images_are_brought_into_their_views_on_the_device(size):
    """Also where the images already have the size of a crop."""
    source, module, seen = tiny.Set(size=size), tiny.module(), []
    data = tiny.data(train=source, apply_in_loader=False, augment=Augment(tiny.CROP))
    fit(module, lambda trainer, module, batch: seen.append(batch), data=data)
    changed = 0
    for batch in seen:
        whole = torch.stack([source.image(i) for i in batch.index.tolist()])
        labels = torch.stack([source.mask(i) for i in batch.index.tolist()])
        image, mask = sample_views(whole, labels, batch.geometry, tiny.CROP)
        assert torch.equal(batch.mask, mask.long())
        torch.testing.assert_close(batch.image, image / 255, atol=1e-6, rtol=0)
        changed += not torch.equal(labels, mask)
    assert changed >= 5


def test_views_made_by_the_loader_are_not_sampled_again():
    module, seen = tiny.module(), []
    data = tiny.data(augment=Augment(tiny.CROP))
    fit(module, lambda trainer, module, batch: seen.append(batch), data=data)
    for batch in seen:
        for i, index in enumerate(batch.index.tolist()):
            expected = data.views[(0, index)]
            torch.testing.assert_close(batch.image[i], expected.image / 255, atol=1e-6, rtol=0)
            assert torch.equal(batch.mask[i], expected.mask.long())


def test_dropout_is_a_function_of_seed_and_step():
    draws = {}
    for run in range(2):
        torch.manual_seed(run)
        module = tiny.module(dropout=0.5)
        fit(module, lambda trainer, module, batch, run=run: draws.setdefault(run, []).append(torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 6


def test_baseline_and_distillation_share_initial_weights_and_data():
    seen = {}
    for name, specs in (("none", {}), ("hybrid", tiny.SPECS)):
        module = tiny.module(specs=specs)
        seen[name] = [tiny.clone(module.student.state_dict())]
        fit(module, lambda trainer, module, batch, name=name: seen[name].append((batch.image, batch.index)))
    weights_a, weights_b = seen["none"].pop(0), seen["hybrid"].pop(0)
    assert all(torch.equal(weights_a[name], weights_b[name]) for name in weights_a)
    for (image_a, index_a), (image_b, index_b) in zip(seen["none"], seen["hybrid"], strict=True):
        assert torch.equal(index_a, index_b)
        assert torch.equal(image_a, image_b)


def test_the_tested_matrices_are_those_of_every_set_in_order():
    module = tiny.module(specs={})
    data = tiny.data(val=tiny.Set(sizes=[(16, 24), (12, 20), (16, 24)]))
    data.sets["test"] = tiny.Set(4)
    trainer = tiny.trainer()
    trainer.test(module, data, verbose=False)
    val, test = module.tested
    assert (val.index.tolist(), test.index.tolist()) == ([0, 1, 2], [0, 1, 2, 3])
    labelled = [np.prod(data.sets["val"].sizes[i]) for i in range(3)]
    assert val.matrices.sum((1, 2)).tolist() == labelled
    predicted = module.student.eval()(data.sets["val"].image(1)[None] / 255).logits
    hits = resize_logits(predicted, (12, 20)).argmax(1)[0].eq(data.sets["val"].mask(1)).sum()
    assert val.matrices[1].trace() == hits
