"""A step that reads a teacher's stored outputs is the step that would have asked the teacher."""

import contextlib
from functools import partial

import pytest
import torch
from torch import nn

from segdistill.cache.build import fill
from segdistill.cache.encoding import Float16
from segdistill.cache.kept import REPLAY_SEED, Kept, ViewMap
from segdistill.cache.making import Making
from segdistill.cache.store import Store
from segdistill.data.augment import Augment, sample_maps
from segdistill.data.loading import EvalImages, Loading, TrainViews, collate
from segdistill.data.prepare import prepare
from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.teacher import Teacher, taught
from segdistill.models.network import SegModel, map_reach
from segdistill.models.output import SegOutput
from tests import tiny

NAMES = ["logits", "deep"]
HOW = Loading(2, 2, 0, False, "raise")


class Killed(Exception):
    pass


class Pointwise(nn.Module):
    """Sees one pixel at a time, so that it commutes with cropping and flipping."""

    def __init__(self):
        super().__init__()
        self.deep, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, tiny.CLASSES, 1)

    def forward(self, x):
        return SegOutput(self.head(self.deep(x).relu()))


def kept(folder, teacher, augment, *, views=0, apply=True, source=None):
    source = source or tiny.Set()
    images = EvalImages(source)
    if views:
        images = TrainViews(source, augment, seed=REPLAY_SEED, apply=apply)
    how = HOW if len(set(source.sizes)) == 1 else HOW._replace(eval_batch_size=1)
    making = Making(teacher, images, NAMES, views=bool(views), crop=augment.crop, how=how)
    folder.mkdir(exist_ok=True)
    store = Store(folder, len(source), views or 1, Float16())
    fill(store, NAMES, lambda keys: making(keys, torch.device("cpu")), batch_size=making.batch_size, verify=True)
    teacher.model.record(NAMES)
    output = teacher(torch.zeros(1, 3, *augment.crop))
    reach = partial(map_reach, divisor=teacher.model.divisor)
    cells = {name: tuple(output.taps[name].shape[2:]) for name in NAMES}
    in_view = {name: ViewMap(size, reach(augment.crop, size)) for name, size in cells.items()}
    return Kept(store, NAMES, bool(views), in_view, reach)


def trained(data, *, steps=20):
    """Losses of every step, and the student's weights after them."""
    module = tiny.module()
    losses = []
    watch = tiny.Watch(lambda trainer, module, batch: losses.append(module.latest["train/loss"].item()))
    tiny.trainer([watch], epochs=100, max_steps=steps, limit_val_batches=0).fit(module, data)
    return losses, tiny.clone(module.student.state_dict())


def close(one, other, tolerance=2e-3):
    torch.testing.assert_close(torch.tensor(one[0]), torch.tensor(other[0]), rtol=tolerance, atol=tolerance)
    for name, weights in one[1].items():
        torch.testing.assert_close(weights, other[1][name], rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("apply", [True, False], ids=["loader", "device"])
def test_replay_is_the_teacher_on_the_same_views(tmp_path, apply):
    augment = Augment(tiny.CROP, brightness=0.2, contrast=0.2, rotation=5.0)
    stored = kept(tmp_path / "s", tiny.teacher(), augment, views=4, apply=apply)
    online = Kept(stored.store, [], replay=True)  # the same views, and nothing is read
    runs = [trained(tiny.data(augment=augment, apply_in_loader=apply, stored=one)) for one in (stored, online)]
    close(*runs)
    assert runs[0][0] != runs[1][0]  # float16 leaves its mark: the stored maps were used


@pytest.fixture
def pointwise():
    torch.manual_seed(3)
    return Teacher(SegModel(Pointwise(), taps={"deep": "deep"}, mean=(0.5,) * 3, std=(0.25,) * 3), "pointwise")


MIXED = [(16, 24), (20, 17), (13, 30), (40, 40)] * 3  # no batch of whole images: the loader's work alone


@pytest.mark.parametrize(
    ("apply", "sizes"), [(True, None), (False, None), (True, MIXED)], ids=["loader", "device", "loader, mixed sizes"]
)
def test_full_view_is_a_teacher_that_commutes_with_crop_and_flip(tmp_path, pointwise, apply, sizes):
    source = tiny.Set(sizes=sizes)
    augment = Augment(tiny.CROP, scale=(1.0, 1.0), flip=0.5)
    stored = kept(tmp_path / "s", pointwise, augment, source=source)
    views = TrainViews(source, augment, seed=7, apply=apply, stored=stored)
    batch = collate([views[epoch, index] for epoch in range(3) for index in range(len(source))])
    assert set(batch.geometry[:, 0, 0].sign().tolist()) == {-1.0, 1.0}  # mirrored and not
    batch = prepare(batch, tiny.CROP, training=True, stored=stored)
    online = pointwise(batch.image)
    read = taught({"main": pointwise}, batch.image, batch.stored)["main"]
    for name in NAMES:
        torch.testing.assert_close(read.taps[name], online.taps[name], atol=4e-3, rtol=4e-3)
    assert read.logits is read.taps["logits"]
    assert read.logits.dtype == torch.float32


def test_a_full_view_follows_scale_and_rotation_like_a_map_that_is_linear_in_its_place():
    x = torch.linspace(-1, 1, 41)[None, :].expand(31, 41) * 40 / 41  # what a pixel's centre is in [-1, 1]
    y = torch.linspace(-1, 1, 31)[:, None].expand(31, 41) * 30 / 31
    theta = torch.tensor([[[0.4, -0.1, 0.2], [0.15, -0.5, 0.1]]])
    sampled = sample_maps(torch.stack([x, y])[None].half(), theta, (9, 13))[0]
    for row, column in ((0, 0), (3, 7), (8, 12)):
        u, v = (2 * column + 1) / 13 - 1, (2 * row + 1) / 9 - 1
        wanted = theta[0] @ torch.tensor([u, v, 1.0])
        torch.testing.assert_close(sampled[:, row, column], wanted, atol=2e-3, rtol=0)


def test_loader_and_device_sample_the_same(tmp_path):
    augment = Augment(tiny.CROP, rotation=20.0)
    stored = kept(tmp_path / "s", tiny.teacher(), augment)
    batches = []
    for apply in (True, False):
        views = TrainViews(tiny.Set(), augment, seed=7, apply=apply, stored=stored)
        batch = collate([views[1, index] for index in range(4)])
        batches.append(prepare(batch, tiny.CROP, training=True, stored=stored))
    for name, one in batches[0].stored.items():
        torch.testing.assert_close(one, batches[1].stored[name])
    assert torch.equal(batches[0].geometry, batches[1].geometry)


@pytest.mark.parametrize("views", [0, 3], ids=["full_view", "replay"])
def test_a_resumed_run_reads_what_an_unbroken_one_reads(tmp_path, views):
    augment = Augment(tiny.CROP, brightness=0.2)
    stored = kept(tmp_path / "s", tiny.teacher(), augment, views=views)
    checkpoint = Checkpoint(tmp_path / "checkpoints", every_n_steps=1)

    def fit(resume=None, stop=None):
        module, seen = tiny.module(), []

        def look(trainer, module, batch):
            seen.append(batch.index)
            if len(seen) == stop:
                raise Killed

        trainer = tiny.trainer([checkpoint, tiny.Watch(look)], epochs=3)
        with pytest.raises(Killed) if stop else contextlib.nullcontext():
            data = tiny.data(augment=augment, stored=stored)
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        return tiny.clone(module.state_dict())

    wanted = fit()
    fit(stop=9)
    for name, resumed in fit(resume=tmp_path / "checkpoints" / "last.ckpt").items():
        assert torch.equal(resumed, wanted[name]), name


def test_a_baseline_and_a_cached_run_see_the_same_images(tmp_path):
    stored = kept(tmp_path / "s", tiny.teacher(), Augment(tiny.CROP))
    seen = []
    for one in (None, stored):
        indices = []
        data = tiny.data(stored=one)
        watch = tiny.Watch(lambda trainer, module, batch, to=indices: to.append((batch.index, batch.image)))
        tiny.trainer([watch], max_steps=8, limit_val_batches=0).fit(tiny.module(specs={}), data)
        seen.append(indices)
    for (index, image), (other, same) in zip(*seen, strict=True):
        assert torch.equal(index, other)
        assert torch.equal(image, same)


class Pooling(nn.Module):
    """Means of 8x8 pixels: a map whose cells are where they are."""

    def __init__(self):
        super().__init__()
        self.deep, self.head = nn.AvgPool2d(8), nn.Conv2d(3, tiny.CLASSES, 1)

    def forward(self, x):
        return SegOutput(self.head(self.deep(x)))


def test_maps_of_padded_images_lie_where_the_view_is(tmp_path):
    torch.manual_seed(3)
    teacher = Teacher(
        SegModel(Pooling(), taps={"deep": "deep"}, mean=(0.5,) * 3, std=(0.25,) * 3, divisor=8), "pooling"
    )
    source = Ramp()
    augment = Augment((24, 32), scale=(1.0, 1.0), flip=0.0)
    stored = kept(tmp_path / "s", teacher, augment, source=source)
    views = TrainViews(source, augment, seed=7, apply=True, stored=stored)
    batch = prepare(collate([views[epoch, 0] for epoch in range(8)]), (24, 32), training=True, stored=stored)
    online = teacher(batch.image).taps["deep"]
    read = batch.stored["main/deep"]
    # A ramp says where each cell looks: 8 grey levels (of 255) a cell, normalised by 0.25; but for cells with padding.
    wrong = (read - online).abs()[:, :, :-1, :-1] * 0.25 * 255
    assert wrong[:, :, 1:, 1:].max() < 0.6


class Ramp(tiny.Set):
    """One image of 37x45, no multiple of 8, whose grey value is its row plus its column."""

    def __init__(self):
        super().__init__(sizes=[(37, 45)])

    def image(self, index):
        rows, columns = torch.arange(37)[:, None], torch.arange(45)
        return (rows + columns).expand(3, 37, 45).to(torch.uint8).contiguous()


@pytest.mark.parametrize("divisor", [1, 8, 32])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_reach_of_every_side(divisor, stride):
    if divisor % stride and divisor > 1:
        return
    for side in range(33, 130):
        cells = -(-side // stride)
        wanted = 1.0 if divisor == 1 or side % divisor == 0 else cells * stride / side
        assert map_reach((side, side), (cells, cells), divisor=divisor) == pytest.approx((wanted, wanted))
