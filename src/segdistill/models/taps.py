"""Taps: finding modules by path, and the hooks that keep what they give."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.tokens import as_map


def locate(network: nn.Module, what: str, spec: str, taps: Iterable[str] = ()) -> tuple[str, int | None]:
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


def capture(
    store: dict[str, Tensor],
    size: Sequence[int],
    name: str,
    index: int | None,
    module: nn.Module,
    args: Any,
    output: Any,
) -> None:
    """Forward hook: keep the map (N, D, h, w) of one tap; ``size`` is that of the image."""
    if index is not None and isinstance(output, list | tuple) and -len(output) <= index < len(output):
        output = output[index]
    elif index is not None or not isinstance(output, Tensor):
        kind = f"a {type(output).__name__}" + (f" of {len(output)}" if isinstance(output, list | tuple) else "")
        fix = "a path takes an index into a list, e.g. encoder:-1, and none where there is no list"
        raise UserError(f"tap {name!r}: the module returns {kind}, the path has index {index}; {fix}")
    found = as_map(output, (size[0], size[1]))
    if found is None:
        raise UserError(
            f"tap {name!r} has shape {tuple(output.shape)}; need a map (N, D, h, w), or tokens (N, L, D) of a grid "
            f"over the image of {size[0]}x{size[1]}"
        )
    store[name] = found


def keep(store: dict[str, Any], index: int | None, module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook: the very tensor that a module returns, or one of a list."""
    store["map"] = output if index is None else output[index]


def note(calls: list[tuple[nn.Module, Tensor, Tensor]], module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook: a module with what it got and what it made of it."""
    if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
        calls.append((module, args[0], output))


def crop(x: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Cut off what only shows padding: ceil(size / stride), where stride = padded / size of the map."""
    if size == padded:
        return x
    height, width = (-(-s * m // p) for s, m, p in zip(size, x.shape[-2:], padded, strict=True))
    return x[..., :height, :width]


def reach(side: int, padded: int, cells: int) -> float:
    """How far ``cells`` that ``crop`` has left reach along an image's side, whose end is 1; beyond it if padded."""
    if side == padded:
        return 1.0
    whole = next(n for n in range(cells, padded + 1) if padded % n == 0 and -(-side * n // padded) == cells)
    return cells * padded / whole / side
