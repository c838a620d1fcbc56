"""Sample pictures in the run folder and, where it can show them, in the logger."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor, nn

from segdistill.data.files import SegmentationSet
from segdistill.engine.module import DistillModule
from segdistill.report.pictures import panel, predict, save


class Samples(pl.Callback):
    """Draws a few validation images, evenly spaced over the set: image | truth | teacher | student.

    Args:
        folder: where the PNGs go; they are overwritten as the run goes on.
        source: the validation set.
        classes, colours: for the legend.
        count: how many images.
        every_n_epochs: how often during training; they are always drawn at the end.
    """

    def __init__(
        self,
        folder: Path,
        source: SegmentationSet,
        classes: Sequence[str],
        colours: np.ndarray,
        *,
        count: int = 4,
        every_n_epochs: int = 10,
    ) -> None:
        self.folder, self.source, self.classes, self.colours = folder, source, classes, colours
        self.every_n_epochs = every_n_epochs
        self.indices = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist()
        self.by_teacher: dict[int, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draw now and then."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due:
            self.draw(trainer, module)

    def draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draw all samples with the network as it stands; on the first rank only."""
        if not trainer.is_global_zero:
            return
        assert isinstance(module, DistillModule)
        pictures = {index: self._one(module, index) for index in self.indices}
        for index, picture in pictures.items():
            save(picture, self.folder / f"{self.source.names[index].replace('/', '_')}.png")
        for logger in trainer.loggers:
            _show(logger, list(pictures.values()), trainer.global_step)

    def _one(self, module: DistillModule, index: int) -> Image.Image:
        image, truth = self.source.image(index), self.source.mask(index)
        teachers: Mapping[str, nn.Module] = module.teachers
        if teachers and index not in self.by_teacher:
            self.by_teacher[index] = predict(next(iter(teachers.values())), image)
        maps = [("truth", truth)]
        maps += [("teacher", self.by_teacher[index])] if teachers else []
        was_training = module.scored.training
        maps += [("student", predict(module.scored.eval(), image))]
        module.scored.train(was_training)
        return panel(image, maps, self.colours, self.classes)


def _show(logger: object, pictures: Sequence[Image.Image], step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image("samples", list(pictures), step=step)
    elif isinstance(logger, TensorBoardLogger):
        for number, picture in enumerate(pictures):
            pixels = torch.from_numpy(np.array(picture))
            logger.experiment.add_image(f"samples/{number}", pixels, step, dataformats="HWC")
