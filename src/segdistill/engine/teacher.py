"""A frozen network that gives targets."""

import math
from collections.abc import Callable, Mapping, Sequence

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
        class_map: for each class of the dataset, which of the teacher's classes it is, or which several of them it is
            together; None if they are the same.
    """

    class_map: Tensor | None  # (dataset's classes, most classes of one) indices; a shorter list repeats its first one
    counted: Tensor | None  # the same shape: False where an index only repeats

    def __init__(self, model: SegModel, name: str, class_map: Sequence[int | Sequence[int]] | None = None) -> None:
        super().__init__()
        self.model, self.name = model, name
        sources = [[one] if isinstance(one, int) else list(one) for one in class_map or ()]
        most = max(map(len, sources), default=0)
        indices = [one + one[:1] * (most - len(one)) for one in sources]
        counted = [[i < len(one) for i in range(most)] for one in sources]
        self.register_buffer("class_map", torch.tensor(indices) if sources else None)
        self.register_buffer("counted", torch.tensor(counted) if sources else None)
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
        logits = self._in_classes_of_the_dataset(output.logits)
        taps = {name: logits if name == "logits" else tap for name, tap in output.taps.items()}
        return output._replace(logits=logits, taps=taps)

    def _in_classes_of_the_dataset(self, logits: Tensor) -> Tensor:
        """Logits of merged classes are the logarithm of their summed exponentials: probabilities add up."""
        if self.class_map is None or self.counted is None:
            return logits
        if self.class_map.shape[1] == 1:
            return logits[:, self.class_map[:, 0]]
        parts = logits[:, self.class_map]  # (N, classes, most, h, w)
        return parts.masked_fill(~self.counted[..., None, None], float("-inf")).logsumexp(dim=2)

    def head_after(self, tap: str, image: Tensor) -> Callable[[Tensor], Tensor]:
        """The frozen function from the map of ``tap`` (N, D, h, w) to logits in the dataset's classes.

        Args:
            tap: one of the teacher's.
            image: (1, 3, H, W), for the dry run that finds the module.

        Raises:
            UserError: no single module of the teacher makes logits of that map.
        """
        head = self.model.head_after(tap, image)
        return lambda features: self._in_classes_of_the_dataset(head(features))

    def check_classes(self, num_classes: int) -> None:
        """Raise a UserError if the logits, mapped where there is a map, are not the dataset's classes."""
        with torch.no_grad():
            side = math.ceil(64 / min(1.0, self.model.resize))
            given = self.model(torch.zeros(1, 3, side, side)).logits.shape[1]
        if self.class_map is not None:
            wrong = [index for index in sorted(set(self.class_map.flatten().tolist())) if not 0 <= index < given]
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


def taught(teachers: Mapping[str, Teacher], image: Tensor, stored: Mapping[str, Tensor]) -> dict[str, SegOutput]:
    """What every teacher says: its stored maps (``teacher/map``) where the batch brought them, else of the images."""
    outputs = {}
    for name, teacher in teachers.items():
        start = f"{name}/"
        taps = {key.removeprefix(start): one for key, one in stored.items() if key.startswith(start)}
        outputs[name] = SegOutput(taps["logits"], taps=taps) if taps else teacher(image)
    return outputs
