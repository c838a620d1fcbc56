"""Our step in Lightning's loop is the problem that a plain torch loop solves: the same losses, step after step."""

import copy

import pytest
import torch
import torch.nn.functional as F

from segdistill.data.augment import Augment
from segdistill.engine.schedules import LearningRate
from segdistill.engine.terms import TermSpec
from segdistill.losses.kd.pixel_kl import PixelKL
from tests import tiny

STEPS, TAU, WEIGHT, AUX, LR = 20, 4.0, 0.5, 0.4, 0.05
ONE_TO_ONE = Augment(tiny.SIZE, scale=(1.0, 1.0), flip=0.0)
VIEWS = Augment(tiny.CROP, scale=(1.0, 2.0), brightness=0.2, contrast=0.2, saturation=0.2)


def ours(augment):
    """Losses of every step in Lightning's loop, the networks as they were before, and the batches."""
    module = tiny.module(
        specs={"pixel_kl": TermSpec(lambda: PixelKL(TAU), weight=WEIGHT)},
        lr=LR,
        learning_rate=LearningRate(decay="constant"),
        aux=True,
        crop=augment.crop,
    )
    student, teacher = copy.deepcopy(module.student), copy.deepcopy(module.teachers["main"].model)
    losses, batches = [], []

    def look(trainer, module, batch):
        losses.append([module.latest[f"train/{name}"].item() for name in ("task", "kd/pixel_kl", "loss")])
        batches.append(batch)

    data = tiny.data(train=tiny.Set(8), augment=augment)
    tiny.trainer([tiny.Watch(look)], epochs=5, limit_val_batches=0).fit(module, data)
    assert len(losses) == STEPS
    return torch.tensor(losses), student, teacher, batches


def plain(student, teacher, batches):
    """The same as a beginner would write it."""
    decayed = [p for p in student.parameters() if p.ndim > 1]
    others = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-3}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9)
    student.train()
    teacher.eval()
    losses = []
    for image, mask in batches:
        with torch.no_grad():
            theirs = teacher(image).logits
        output = student(image)
        heads = [F.interpolate(x, mask.shape[-2:], mode="bilinear") for x in (output.logits, *output.aux)]
        main, aux = (F.cross_entropy(x, mask, ignore_index=255) for x in heads)
        log_s, log_t = (F.log_softmax(x / TAU, dim=1) for x in (output.logits, theirs))
        kl = TAU**2 * (log_t.exp() * (log_t - log_s)).sum(dim=1).mean()
        task, kl = main + AUX * aux, WEIGHT * kl
        optimizer.zero_grad()
        (task + kl).backward()
        optimizer.step()
        losses.append([task.item(), kl.item(), (task + kl).item()])
    return torch.tensor(losses)


def from_the_set(batches):
    """The batches' images and masks, read from the dataset by their index alone."""
    source = tiny.Set(8)
    for batch in batches:
        image = torch.stack([source.image(i) for i in batch.index.tolist()]).float() / 255
        yield image, torch.stack([source.mask(i) for i in batch.index.tolist()]).long()


@pytest.mark.parametrize("augment", [ONE_TO_ONE, VIEWS], ids=["unaugmented", "replayed views"])
def test_the_plain_loop_has_the_same_losses_over_20_steps(augment):
    losses, student, teacher, batches = ours(augment)
    seen = from_the_set(batches) if augment is ONE_TO_ONE else [(one.image, one.mask) for one in batches]
    torch.testing.assert_close(losses, plain(student, teacher, seen), rtol=1e-5, atol=1e-6)
    assert losses[-4:, 2].mean() < 0.9 * losses[:4, 2].mean()  # and it was worth comparing: something was learnt
