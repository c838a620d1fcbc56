"""A network with its normalisation, its padding and its taps: what students and teachers are to the engine."""

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segdistill.errors import UserError
from segdistill.models.attention.placing import place_blocks
from segdistill.models.output import SegOutput


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
    ) -> None:
        super().__init__()
        if channel_order not in ("rgb", "bgr"):
            raise UserError(f"channel_order={channel_order!r}: must be rgb or bgr")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(f"mean={list(mean)}, std={list(std)}: need three values each, and std above 0")
        if divisor < 1:
            raise UserError(f"divisor={divisor}: must be 1 (any size) or what height and width must be multiples of")
        self.network = network
        self.scale = scale
        self.bgr = channel_order == "bgr"
        self.divisor = divisor
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1), persistent=False)
        self._taps = {name: _locate(network, f"tap {name!r}", spec) for name, spec in taps.items()}
        blocks = attention or {}
        places = {
            name: self._taps.get(name) or _locate(network, f"attention.{name}", name, tuple(taps)) for name in blocks
        }
        place_blocks(network, blocks, places)
        self._names: tuple[str, ...] = ()
        self._hooks: list[Any] = []
        self._captured: dict[str, Tensor] = {}  # filled by the hooks, emptied by every forward

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
                hook = partial(_capture, self._captured, name, index)
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
        size = (image.shape[-2], image.shape[-1])
        if not torch.compiler.is_compiling():
            self.require_size(size)
        x = image.flip(1) if self.bgr else image
        x = (self.scale * x - self.mean) / self.std
        padded = (size[0] + -size[0] % self.divisor, size[1] + -size[1] % self.divisor)
        if padded != size:
            x = F.pad(x, (0, padded[1] - size[1], 0, padded[0] - size[0]))
        self._captured.clear()
        output = self._unpack(self.network(x))
        maps = {"logits": output.logits, **self._captured}
        self._captured.clear()
        for name in self._names:
            if name not in maps:
                raise UserError(f"tap {name!r}: module {self._taps[name][0]!r} did not run; tap one that runs in eval")
        return SegOutput(
            _crop(output.logits, size, padded),
            tuple(_crop(head, size, padded) for head in output.aux),
            {name: _crop(maps[name], size, padded) for name in self._names},
            None if output.boundary is None else _crop(output.boundary, size, padded),
        )

    def require_size(self, size: tuple[int, int]) -> None:
        """Raise a UserError for images (H, W) that are smaller than the network's deepest stride.

        Padding lifts them where there is a divisor; elsewhere the network says how deep it goes.
        """
        least = 1 if self.divisor > 1 else int(getattr(self.network, "stride", 1))
        if min(size) < least:
            raise UserError(
                f"image of {size[0]}x{size[1]}: {type(self.network).__name__} halves it down to stride {least}; "
                f"give it at least {least}x{least}"
            )

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


def parameter_count(model: nn.Module) -> int:
    """Count the parameters that an exported network keeps.

    A network (or any module in it) names the children that only training uses in a class attribute, e.g.
    ``training_only = ("aux_heads",)``; those are left out.
    """
    skipped = _of_training(model)
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in skipped)


def state_bytes(model: nn.Module) -> int:
    """Bytes of the tensors that an exported network keeps: parameters and saved buffers, as they are."""
    skipped = _of_training(model)
    tensors = [value for value in model.state_dict(keep_vars=True).values() if id(value) not in skipped]
    return sum(value.numel() * value.element_size() for value in tensors)


def _of_training(model: nn.Module) -> set[int]:
    """Ids of the parameters and buffers that only training uses."""
    return {
        id(tensor)
        for module in model.modules()
        for name in getattr(module, "training_only", ())
        for part in (module.get_submodule(name),)
        for tensor in (*part.parameters(), *part.buffers())
    }


def gmacs(model: nn.Module, size: tuple[int, int]) -> float:
    """Return 10^9 multiply-adds of one image of ``size`` (H, W) in eval: convolutions, matrix products, attention.

    Runs a copy on the meta device, so it computes nothing and leaves the model and the random state alone.
    """
    copied = copy.deepcopy(model).to("meta").eval()
    dtype = next(copied.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(torch.empty(1, 3, *size, device="meta", dtype=dtype))
    return float(counter.get_total_flops()) / 2 / 1e9


def _locate(network: nn.Module, what: str, spec: str, taps: Iterable[str] = ()) -> tuple[str, int | None]:
    """Split ``path:index`` and make sure that the module exists.

    For the message: ``what`` wants it, and could have named one of ``taps`` instead.
    """
    path, colon, index = spec.partition(":")
    if what == "tap 'logits'":
        raise UserError("tap 'logits' always exists and cannot be given a path; choose another name")
    modules = [module for module, _ in network.named_modules() if module]
    if path not in modules:
        near = difflib.get_close_matches(path, [*taps, *modules], n=5) or [*taps, *dict(network.named_children())]
        known = f"no tap or module {path!r}" if taps else f"no module {path!r}"
        raise UserError(f"{what}: {type(network).__name__} has {known}; nearest: {', '.join(near)}")
    try:
        return path, int(index) if colon else None
    except ValueError:
        raise UserError(f"{what}: {index!r} in {spec!r} is no index; write e.g. {path}:-1") from None


def _capture(store: dict[str, Tensor], name: str, index: int | None, module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook: keep the map (N, D, h, w) of one tap."""
    if index is not None and isinstance(output, list | tuple) and -len(output) <= index < len(output):
        output = output[index]
    elif index is not None or not isinstance(output, Tensor):
        kind = f"a {type(output).__name__}" + (f" of {len(output)}" if isinstance(output, list | tuple) else "")
        fix = "a path takes an index into a list, e.g. encoder:-1, and none where there is no list"
        raise UserError(f"tap {name!r}: the module returns {kind}, the path has index {index}; {fix}")
    if output.ndim != 4:
        raise UserError(f"tap {name!r} has shape {tuple(output.shape)}; need a map (N, D, h, w)")
    store[name] = output


def _crop(x: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Cut off what only shows padding: ceil(size / stride), where stride = padded / size of the map."""
    if size == padded:
        return x
    height, width = (-(-s * m // p) for s, m, p in zip(size, x.shape[-2:], padded, strict=True))
    return x[..., :height, :width]
