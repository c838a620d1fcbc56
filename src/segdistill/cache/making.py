"""From keys of records to a teacher's maps: the loader's images, the step's preparation, the network."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from segdistill.cache import build
from segdistill.cache.build import Key
from segdistill.cache.store import LOGITS
from segdistill.data.loading import Batch, Loading, loader
from segdistill.data.prepare import prepare
from segdistill.engine.teacher import Teacher


class Making:
    """Shows a teacher whole images as they are, or the training's views of them, and gives what it says.

    Args:
        teacher: the network; it is told which taps to record.
        images: by index (whole images), or by (view, index) as ``TrainViews`` has them.
        names: ``logits`` and taps.
        views: whether ``images`` are views, colours included.
        crop: (H, W) of views.
        how: batch size of whole images is ``eval_batch_size``, of views ``batch_size``.
    """

    def __init__(
        self,
        teacher: Teacher,
        images: Dataset[Batch],
        names: Sequence[str],
        *,
        views: bool,
        crop: tuple[int, int],
        how: Loading,
    ) -> None:
        self.teacher, self.images, self.names, self.views, self.crop, self.how = (
            teacher,
            images,
            names,
            views,
            crop,
            how,
        )

    @property
    def batch_size(self) -> int:
        """Records that the teacher sees at once."""
        return self.how.batch_size if self.views else self.how.eval_batch_size

    def __call__(self, keys: Iterable[list[Key]], device: torch.device) -> Iterator[build.Batch]:
        """Batches of keys with their maps (N, C, h, w), made on ``device``."""
        self.teacher.to(device)
        self.teacher.model.record([name for name in self.names if name != LOGITS])
        told: list[list[Key]] = []
        for batch in loader(self.images, self._order(keys, told), self.how):
            image, mask, geometry, photometric = (
                x.to(device) for x in (batch.image, batch.mask, batch.geometry, batch.photometric)
            )
            here = batch._replace(image=image, mask=mask, geometry=geometry, photometric=photometric)
            output = self.teacher(prepare(here, self.crop, training=self.views).image)
            maps: dict[str, Tensor] = {LOGITS: output.logits, **output.taps}
            yield told.pop(0), {name: maps[name] for name in self.names}, bool(batch.failed)

    def _order(self, keys: Iterable[list[Key]], told: list[list[Key]]) -> Iterator[list[Key] | list[int]]:
        for batch in keys:
            told.append(batch)
            yield batch if self.views else [index for _, index in batch]
