"""A frozen network that gives targets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.network import SegModel
from segdistill.models.output import SegOutput


class Teacher(nn.Module):
    """A network that never trains: always in eval, without gradients, its logits in the dataset's classes.

    It is held outside the trained module's children, so it is in no optimiser, checkpoint, EMA or DDP wrapper.

    Args:
        model: the network.
        name: for messages and the run folder.
        class_map: for each class of the dataset, which of the teacher's classes it is; None if they are the same.
    """

    def __init__(self, model: SegModel, name: str, class_map: Sequence[int] | None = None) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.class_map: Tensor | None
        self.register_buffer("class_map", None if class_map is None else torch.tensor(list(class_map)))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval, whatever the trainer says: BatchNorm and dropout of a teacher are frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> SegOutput:
        """Logits (N, C, h, w) and the recorded taps of images (N, 3, H, W) in [0, 1]."""
        output: SegOutput = self.model(image)
        if self.class_map is None:
            return output
        logits = output.logits[:, self.class_map]
        taps = {name: logits if name == "logits" else tap for name, tap in output.taps.items()}
        return output._replace(logits=logits, taps=taps)

    def check_classes(self, num_classes: int) -> None:
        """Raise a UserError if the logits, mapped where there is a map, are not the dataset's classes."""
        with torch.no_grad():
            given = self.model(torch.zeros(1, 3, 64, 64)).logits.shape[1]
        if self.class_map is not None:
            wrong = [index for index in self.class_map.tolist() if not 0 <= index < given]
            if wrong:
                raise UserError(
                    f"teacher.class_map holds {', '.join(map(str, wrong))}, none of the classes 0..{given - 1} of "
                    f"teacher {self.name!r}; give one of these for each class of the dataset"
                )
            given = len(self.class_map)
        if given != num_classes:
            raise UserError(
                f"teacher {self.name!r} has {given} classes, the dataset {num_classes}; set teacher.class_map to "
                f"{num_classes} of the teacher's class indices, one for each class of the dataset in its order"
            )
