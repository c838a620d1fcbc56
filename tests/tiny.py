"""Small stand-ins for datasets, networks and runs: everything trains in a fraction of a second on one core."""

import functools

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from segdistill.data.augment import Augment
from segdistill.data.loading import Loading
from segdistill.engine.balance import balance
from segdistill.engine.data_module import DataModule
from segdistill.engine.module import DistillModule
from segdistill.engine.objective import TaskLoss
from segdistill.engine.schedules import LearningRate
from segdistill.engine.teacher import Teacher
from segdistill.engine.terms import TermSpec, build_terms
from segdistill.errors import UserError
from segdistill.losses.kd.cwd import ChannelWise
from segdistill.losses.kd.pixel_kl import PixelKL
from segdistill.losses.task.cross_entropy import CrossEntropy
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput

torch.set_num_threads(1)  # maps this small only lose by threads

CLASSES = 3
SIZE = (16, 24)
CROP = (12, 16)


class Net(nn.Module):
    """Stride 2 and 4, BatchNorm, perhaps dropout and a training head."""

    def __init__(self, classes=CLASSES, width=4, dropout=0.0, aux=False):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(), nn.Dropout2d(dropout))
        self.head = nn.Conv2d(2 * width, classes, 1)
        self.aux = nn.Conv2d(width, classes, 1) if aux else None

    def forward(self, x):
        low = self.low(x)
        logits = self.head(self.deep(low))
        return SegOutput(logits, (self.aux(low),) if self.training and self.aux is not None else ())


class Set:
    """A dataset in memory: noise over blocks of one class each; the indices in ``broken`` cannot be read."""

    def __init__(self, count=12, size=SIZE, classes=CLASSES, broken=(), sizes=None):
        self.sizes = sizes or [size] * count
        self.names = [f"drive/{i:03d}" for i in range(len(self.sizes))]
        self.groups = ["" for _ in self.sizes]
        self.classes, self.broken = classes, set(broken)

    def __len__(self):
        return len(self.sizes)

    def image(self, index):
        if index in self.broken:
            raise UserError(f"{self.names[index]}.png: cannot be read (cut off): replace the file")
        noise = np.random.default_rng((1, index)).integers(0, 120, (3, *self.sizes[index]), dtype=np.uint8)
        return torch.from_numpy(noise) + 40 * self.mask(index)

    def mask(self, index):
        height, width = self.sizes[index]
        blocks = np.random.default_rng((2, index)).integers(0, self.classes, (-(-height // 4), -(-width // 4)))
        return torch.from_numpy(blocks.repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.uint8))

    def size(self, index):
        return self.sizes[index]

    def fingerprint(self):
        return repr((self.sizes, self.classes))


def model(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SegModel(Net(**options), taps={"low": "low", "deep": "deep"}, mean=(0.5,) * 3, std=(0.25,) * 3)


def teacher(seed=100, class_map=None, **options):
    return Teacher(model(seed, **{"width": 6} | options), "tiny", class_map)


SPECS = {
    "pixel_kl": TermSpec(PixelKL, weight=0.5),
    "cwd": TermSpec(ChannelWise, weight=2.0, student=("deep",), teacher=("deep",), adapter="conv1x1"),
}


def module(
    *,
    seed=0,
    specs=SPECS,
    balancing=None,
    ema_decay=None,
    lr=0.05,
    learning_rate=None,
    dropout=0.0,
    aux=False,
    crop=CROP,
    task=None,
):
    """A student with its losses; ``seed`` decides its initial weights and the adapters'."""
    student = model(seed, dropout=dropout, aux=aux)
    teachers = {"main": teacher()} if specs else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        terms = build_terms(specs, student, teachers, crop=crop, num_classes=CLASSES)
    return DistillModule(
        student,
        task or TaskLoss({"ce": CrossEntropy()}, {"ce": 1.0}, 0.4),
        terms,
        teachers,
        balance(balancing, {name: spec.weight for name, spec in specs.items()}, 1.0, 3) if balancing else None,
        classes=["a", "b", "c"],
        optimizer=functools.partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=1e-3),
        learning_rate=learning_rate or LearningRate(),
        seed=7,
        ema_decay=ema_decay,
        crop=crop,
    )


def data(
    *,
    train=None,
    val=None,
    batch_size=2,
    num_workers=0,
    apply_in_loader=True,
    augment=None,
    on_error="raise",
    stored=None,
    on_device=False,
):
    return DataModule(
        {"train": train or Set(), "val": val or Set(3)},
        augment or Augment(CROP, brightness=0.2, contrast=0.2, saturation=0.2),
        Loading(batch_size, 1, num_workers, False, on_error),
        seed=7,
        apply_in_loader=apply_in_loader,
        stored=stored,
        on_device=on_device,
    )


def trainer(callbacks=(), *, epochs=2, **options):
    plain = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(max_epochs=epochs, callbacks=list(callbacks), **plain | options)


class Watch(pl.Callback):
    """Calls ``look(trainer, module, batch)`` at the end of every training batch."""

    def __init__(self, look):
        self.look = look

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.look(trainer, module, batch)


def clone(state):
    return {name: value.detach().clone() for name, value in state.items()}
