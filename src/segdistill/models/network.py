"""A network with its normalisation, its padding and its taps: what students and teachers are to the engine."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.attention.placing import place_blocks
from segdistill.models.output import SegOutput
from segdistill.models.taps import capture, crop, keep, locate, note, reach


class SegModel(nn.Module):
    """Wrap any segmentation network so that it takes RGB in [0, 1] of any size and returns a ``SegOutput``.

    Call ``record`` before ``torch.compile``: a compiled model does not notice hooks that come later.

    Args:
        network: takes (N, 3, H, W) and returns a tensor of logits, a ``SegOutput``, a dict whose key ``out`` holds the
            logits (torchvision; the other tensors are training heads), or an object with ``logits`` (transformers).
        taps: name -> path of a module inside ``network`` whose output is the map, with an index where the module
            returns a list, e.g. ``{"backbone": "encoder:-1", "decoder": "decoder"}``. ``logits`` always exists.
        mean: per channel, in the network's own channel order.
        std: per channel, in the same order.
        scale: the image is multiplied by it first, e.g. 255 for statistics in pixel values.
        channel_order: ``rgb`` or ``bgr``.
        divisor: the network gets sizes that this divides: zeros are added on the right and at the bottom after
            normalising, and every map is cropped back to the part that shows the image.
        attention: tap or path of a module -> what makes the block that is put behind it from a number of channels.
        resize: the network sees images at this multiple of their size (bilinear); its maps keep their size there.

    Raises:
        UserError: for an impossible argument, or a tap or a place whose module does not exist.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        taps: Mapping[str, str],
        mean: Sequence[float],
        std: Sequence[float],
        scale: float = 1.0,
        channel_order: str = "rgb",
        divisor: int = 1,
        attention: Mapping[str, Callable[[int], nn.Module]] | None = None,
        resize: float = 1.0,
    ) -> None:
        super().__init__()
        if channel_order not in ("rgb", "bgr"):
            raise UserError(f"channel_order={channel_order!r}: must be rgb or bgr")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"mean={list(mean)}, std={list(std)}: need three values each, and std above 0")
        if divisor < 1:
            raise UserError(f"divisor={divisor}: must be 1 (any size) or what height and width must be multiples of")
        if resize <= 0:
            raise UserError(
                f"resize={resize}: must be above 0; 1 shows the network images as they are, 0.5 half as large"
            )
        self.network = network
        self.scale, self.resize = scale, resize
        self.bgr = channel_order == "bgr"
        self.divisor = divisor
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1), persistent=False)
        self._taps = {name: locate(network, f"tap {name!r}", spec) for name, spec in taps.items()}
        blocks = attention or {}
        places = {
            name: self._taps.get(name) or locate(network, f"attention.{name}", name, tuple(taps)) for name in blocks
        }
        place_blocks(network, blocks, places)
        self._names: tuple[str, ...] = ()
        self._hooks: list[Any] = []
        self._captured: dict[str, Tensor] = {}  # filled by the hooks, emptied by every forward
        self._size: list[int] = []  # (H, W) that the network is running on, for the hooks

    @property
    def tap_names(self) -> tuple[str, ...]:
        """The taps that ``record`` takes beside ``logits``."""
        return tuple(self._taps)

    def record(self, names: Iterable[str]) -> None:
        """Choose the taps that ``forward`` returns from now on; an earlier choice and its hooks are dropped.

        Raises:
            UserError: for a name that is no tap; lists those there are.
        """
        names = tuple(dict.fromkeys(names))
        for name in names:
            if name != "logits" and name not in self._taps:
                known = ", ".join(["logits", *self._taps])
                raise UserError(f"{name!r} is no tap of {type(self.network).__name__}; its taps: {known}")
        for hook in self._hooks:
            hook.remove()
        self._names = names
        self._hooks = []
        for name in names:
            if name != "logits":
                path, index = self._taps[name]
                # a partial, not a closure: copying the model then copies the link to `_captured` too
                hook = partial(capture, self._captured, self._size, name, index)
                self._hooks.append(self.network.get_submodule(path).register_forward_hook(hook))

    def forward(self, image: Tensor) -> SegOutput:
        """Segment images.

        Args:
            image: (N, 3, H, W) float RGB in [0, 1], any H and W.

        Returns:
            logits and training heads at the network's own strides; ``taps`` holds the recorded maps, (N, D, h, w) each.

        Raises:
            UserError: for an image smaller than the network's deepest stride.
        """
        if not torch.compiler.is_compiling():
            self.require_size((image.shape[-2], image.shape[-1]))
        if self.resize != 1:
            image = _resized(image, self.resize)
        size = (image.shape[-2], image.shape[-1])
        x = self.normalised(image)
        padded = (size[0] + -size[0] % self.divisor, size[1] + -size[1] % self.divisor)
        if padded != size:
            x = F.pad(x, (0, padded[1] - size[1], 0, padded[0] - size[0]))
        self._captured.clear()
        self._size[:] = padded
        output = self._unpack(self.network(x))
        maps = {"logits": output.logits, **self._captured}
        self._captured.clear()
        for name in self._names:
            if name not in maps:
                raise UserError(f"tap {name!r}: module {self._taps[name][0]!r} did not run; tap one that runs in eval")
        return SegOutput(
            crop(output.logits, size, padded),
            tuple(crop(head, size, padded) for head in output.aux),
            {name: crop(maps[name], size, padded) for name in self._names},
            None if output.boundary is None else crop(output.boundary, size, padded),
        )

    def normalised(self, image: Tensor) -> Tensor:
        """An image (N, 3, H, W) in [0, 1] in the channel order and the range that the network knows."""
        x = image.flip(1) if self.bgr else image
        x = x if self.scale == 1 else self.scale * x
        return (x - self.mean).div_(self.std)

    def head_after(self, tap: str, image: Tensor) -> nn.Module:
        """The module that makes the logits of the map of ``tap``, found by a dry run on ``image`` (1, 3, H, W).

        Raises:
            UserError: there is none, because more than one module lies between the two.
        """
        if tap not in self._taps:
            raise UserError(f"tap {tap!r} has no teacher's head behind it; name a map, e.g. decoder")
        path, index = self._taps[tap]
        seen: dict[str, Any] = {}
        calls: list[tuple[nn.Module, Tensor, Tensor]] = []
        hooks = [module.register_forward_hook(partial(note, calls)) for module in self.network.modules()]
        hooks.append(self.network.get_submodule(path).register_forward_hook(partial(keep, seen, index)))
        try:
            with torch.no_grad():
                classes = self.eval()(image).logits.shape[1]
        finally:
            for hook in hooks:
                hook.remove()
        heads = [module for module, given, made in calls if given is seen["map"] and made.shape[1:2] == (classes,)]
        if not heads:
            raise UserError(
                f"{type(self.network).__name__} has no single module that makes its logits of tap {tap!r}; name the "
                "map that its last layer gets, or leave out the term that uses the teacher's head (kd=crosskd)"
            )
        return heads[-1]  # the outermost: hooks of inner modules run first

    def require_size(self, size: tuple[int, int]) -> None:
        """Raise a UserError for images (H, W) that are smaller than the network's deepest stride.

        Padding lifts them where there is a divisor; elsewhere the network says how deep it goes.
        """
        if min(_scaled(size, self.resize)) < self._stride:
            raise UserError(
                f"image of {size[0]}x{size[1]}: {type(self.network).__name__} halves it down to stride {self._stride}"
                + (f" after resize={self.resize}" if self.resize != 1 else "")
                + f"; give it at least {self.least}x{self.least}"
            )

    @property
    def least(self) -> int:
        """The shortest side of an image that the network takes."""
        return math.ceil(self._stride / self.resize)

    @property
    def _stride(self) -> int:
        return 1 if self.divisor > 1 else int(getattr(self.network, "stride", 1))

    def _unpack(self, output: Any) -> SegOutput:
        if isinstance(output, Tensor):
            return SegOutput(output)
        if isinstance(output, SegOutput):
            return output
        if isinstance(output, dict) and "out" in output:
            return SegOutput(output["out"], tuple(v for k, v in output.items() if k != "out") if self.training else ())
        logits = getattr(output, "logits", None)
        if isinstance(logits, Tensor):
            return SegOutput(logits)
        raise UserError(
            f"{type(self.network).__name__} returned a {type(output).__name__}; "
            "expected a Tensor, a SegOutput, a dict with the key 'out', or an object with logits"
        )


def _resized(image: Tensor, factor: float) -> Tensor:
    size = _scaled((image.shape[-2], image.shape[-1]), factor)
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=factor < 1)


def _scaled(size: tuple[int, int], factor: float) -> list[int]:
    return [max(1, round(side * factor)) for side in size]


def map_reach(
    size: tuple[int, int], cells: tuple[int, int], *, divisor: int, resize: float = 1.0
) -> tuple[float, float]:
    """How far a map of ``cells`` (h, w) reaches over an image of ``size`` (H, W), whose end is 1.

    Beyond it where a ``SegModel`` with this ``divisor`` and ``resize`` has padded: a cell is left where any of it shows
    the image.
    """
    sides = _scaled(size, resize)
    found = [reach(side, side + -side % divisor, n) for side, n in zip(sides, cells, strict=True)]
    return found[0], found[1]
