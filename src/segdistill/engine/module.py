"""The whole flow: image -> student and teacher -> losses -> step."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from segdistill.data.loading import Batch, StoredMaps
from segdistill.data.prepare import prepare
from segdistill.engine.balance import Balance
from segdistill.engine.ema import average_of, follow
from segdistill.engine.guard import FiniteGuard
from segdistill.engine.objective import TaskLoss
from segdistill.engine.optim import build_optimizer, parameter_groups
from segdistill.engine.preflight import preflight
from segdistill.engine.schedules import LearningRate
from segdistill.engine.teacher import Teacher, taught
from segdistill.engine.terms import Term, raw_losses
from segdistill.losses.ranks import from_first_rank
from segdistill.metrics.evaluator import Evaluation, Evaluator, ordered
from segdistill.metrics.scores import scores
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput

log = logging.getLogger(__name__)


class DistillModule(pl.LightningModule):
    """Trains a student on labels and, where a recipe has terms, on what its teachers say.

    Args:
        student: the network to train.
        task: the loss on labels.
        terms: the recipe's terms by name, built by ``build_terms``; empty for the baseline.
        teachers: frozen networks by name; empty for the baseline.
        balance: keeps terms from dominating; None leaves their weights as they are and measures nothing.
        classes: names of the dataset's classes.
        optimizer: makes the optimiser from parameter groups.
        learning_rate: its factor over the training.
        seed: the step's own generator is a function of it and the step.
        ema_decay: decay of the averaged weights that are then scored and kept; None is off.
        crop: (H, W) of the training views, needed where whole images are sampled on the device.
        stored: whose maps the batches bring, if a teacher's outputs are stored.
        depths: modules of the student, shallowest first, that learn the more slowly, the shallower.
        lr_decay: factor on the learning rate for each step of depth.
    """

    def __init__(
        self,
        student: SegModel,
        task: TaskLoss,
        terms: nn.ModuleDict,
        teachers: Mapping[str, Teacher],
        balance: Balance | None = None,
        *,
        classes: list[str],
        optimizer: Callable[..., Optimizer],
        learning_rate: LearningRate,
        seed: int,
        ema_decay: float | None = None,
        crop: tuple[int, int],
        stored: StoredMaps | None = None,
        depths: Sequence[nn.Module] = (),
        lr_decay: float = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.task = student, task
        self.terms: Mapping[str, Term] = terms  # type: ignore[assignment]  # a ModuleDict of Terms
        self.balance = balance or Balance(list(terms), measure_every=0)
        self.raw_losses = raw_losses  # as it is, or compiled
        self.told = False  # whether the table of what is compared has been logged
        self.ema_decay = ema_decay
        self.ema = average_of(student) if ema_decay else None
        self._teachers = dict(teachers)  # a plain dict: not registered, so not saved, not optimised, not in DDP
        self.classes, self.crop, self.stored, self.seed = classes, crop, stored, seed
        self.make_optimizer, self.learning_rate = optimizer, learning_rate
        self.depths, self.lr_decay = list(depths), lr_decay
        self.memory_format = torch.contiguous_format
        self.guard = FiniteGuard()
        self.evaluators = [Evaluator(len(classes)), Evaluator(len(classes))]  # val and test
        self.tested: list[Evaluation] = []
        self.latest: dict[str, Tensor] = {}  # this step's losses, for whoever averages them
        self.shares: dict[str, Tensor] = {}  # as last measured

    @property
    def scored(self) -> SegModel:
        """The network that is evaluated and kept: the average where EMA is on, else the student."""
        return self.student if self.ema is None else self.ema

    @property
    def teachers(self) -> Mapping[str, Teacher]:
        """The frozen networks by name."""
        return self._teachers

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(1.0, self.global_step / max(1, self.total_steps))

    @property
    def logs(self) -> bool:
        """Whether there are loggers that take this step's values, for which the host has to wait for the device."""
        return bool(self.trainer.loggers) and self.trainer._logger_connector.should_update_logs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step: the sum of the task loss and the weighted terms."""
        weights = {name: term.at(self.progress) for name, term in self.terms.items()}
        active = [name for name in weights if weights[name] or self.trainer.world_size > 1]  # DDP wants every gradient
        teachers = taught(self._teachers, batch.image, batch.stored) if active else {}
        terms = {name: self.terms[name] for name in active}
        raw = self.raw_losses(self.student, self.task, terms, batch.image, teachers, batch.mask)
        self.look(raw, weights, teachers)
        losses = self.balance({name: weights.get(name, 1.0) * value for name, value in raw.items()})
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        losses = {f"kd/{name}" if name in weights else name: value for name, value in losses.items()} | {"loss": loss}
        self.guard.check(losses, self.global_step)
        self.latest |= {f"train/{name}": value.detach() for name, value in losses.items()}
        if self.logs:
            self.log_dict(self.shares | self.latest, batch_size=len(batch.image))
        return loss

    def look(self, raw: Mapping[str, Tensor], weights: Mapping[str, float], teachers: Mapping[str, SegOutput]) -> None:
        """Now and then, who pulls how hard; once, what the terms compare."""
        self.latest = {}
        if self.balance.due(self.global_step) and len(raw) > 1:
            self.balance.measure(raw, [p for p in self.student.parameters() if p.requires_grad])
            self.shares = {f"share/{name}": share for name, share in self.balance.shares(weights).items()}
            self.latest = dict(self.shares)
        if not self.told and len(raw) == 1 + len(weights) > 1:  # a term in its warm-up has no value yet
            self.told = True
            factors = dict(zip(weights, self.balance.factors.tolist(), strict=True))
            effective = {name: weight * factors[name] for name, weight in weights.items()}
            told = preflight(self.terms, raw, effective, teachers)
            if self.trainer.is_global_zero:
                log.info("what is distilled, on the first batch:\n%s", told)

    def on_validation_start(self) -> None:
        """All ranks score the network that rank 0 saves: outside ``SyncBatchNorm`` each has statistics of its own."""
        from_first_rank(self.scored.buffers())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in the confusion matrices."""
        self.evaluators[0].update(self.scored(batch.image).logits, batch.mask, batch.index)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same, for one of several sets."""
        self.evaluators[dataloader_idx].update(self.scored(batch.image).logits, batch.mask, batch.index)

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole set."""
        found = scores(self._gather(self.evaluators[0]).total, self.classes)
        named = {"val/miou": found.miou, "val/pixel_accuracy": found.pixel_accuracy}
        self.log_dict({name: value or 0.0 for name, value in named.items()}, prog_bar=True, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Keep the matrices of every set for whoever started the evaluation."""
        self.tested = [self._gather(evaluator) for evaluator in self.evaluators if evaluator.index]

    def _gather(self, evaluator: Evaluator) -> Evaluation:
        mine = torch.cat(evaluator.index), torch.cat(evaluator.matrices)
        evaluator.clear()
        if self.trainer.world_size == 1:
            return ordered(*mine)
        index, matrices = self.all_gather(mine)  # ranks have equal shapes: the loader pads
        return ordered(index.flatten(), matrices.flatten(0, 1))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: views where the loader gave whole images, floats, colours."""
        return prepare(
            batch,
            self.crop,
            training=self.trainer.training,
            memory_format=self.memory_format,
            stored=self.stored,
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Give the step its own generator, so that a resumed run draws what an unbroken one draws."""
        seed = hash((self.seed, self.current_epoch, batch_idx, self.global_rank)) % 2**63
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":  # `torch.manual_seed` prints the stack for every kind of device that is not there
            torch.get_device_module(self.device).manual_seed(seed)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and let the averaged weights follow at once: a checkpoint may be written right after."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None and self.ema_decay is not None:
            follow(self.ema, self.student, self.ema_decay, self.global_step)  # which does not count this step yet

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """No step is taken on a loss that is not finite."""
        self.guard.before_step()

    def setup(self, stage: str) -> None:
        """Bring the teachers to the device; they are nobody's children."""
        for teacher in self._teachers.values():
            teacher.to(self.device).to(memory_format=self.memory_format)
        self.student.to(memory_format=self.memory_format)
        self.scored.to(memory_format=self.memory_format)

    def configure_optimizers(self) -> Any:
        """Student and terms share one optimiser and one schedule."""
        self.total_steps = int(self.trainer.estimated_stepping_batches)
        groups = parameter_groups([self.student, *self.terms.values(), self.balance], self.depths, self.lr_decay)
        optimizer = build_optimizer(self.make_optimizer, groups)
        scheduler = self.learning_rate.scheduler(optimizer, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
