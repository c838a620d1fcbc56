"""Transformers give tokens: from a list of them, or a map with the channels last, to a map."""

from collections.abc import Iterable, Iterator

from torch import Tensor

MOST_PREFIX_TOKENS = 8  # class and register tokens, which come first
STRIDES = (1, 2, 4, 8, 16, 32, 64, 7, 14, 28)  # of tokens; with any other, too many numbers could be grids


def as_map(values: Tensor, size: tuple[int, int]) -> Tensor | None:
    """A tap's output as a map (N, D, h, w).

    Args:
        values: a map; a map with channels last (N, h, w, D); or tokens (N, L, D) row by row, perhaps after class and
            register tokens.
        size: (H, W) of the image: a grid has one stride along both sides. A map of any grid is taken as it is, unless
            only the reading with channels last fits.

    Returns:
        The map, or None if ``values`` can be none.
    """
    if values.ndim == 4:
        last = not _fits(values.shape[2:], size) and _fits(values.shape[1:3], size)
        return values.permute(0, 3, 1, 2) if last else values
    if values.ndim != 3:
        return None
    for prefix in range(MOST_PREFIX_TOKENS + 1):
        grid = _grid(values.shape[1] - prefix, size)
        if grid is not None and (not prefix or grid[0] * grid[1] > MOST_PREFIX_TOKENS):
            return values[:, prefix:].transpose(1, 2).reshape(len(values), -1, *grid)
    return None


def _grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of ``tokens`` positions at one of the usual strides over an image of ``size``."""
    return next((grid for grid in _grids(size, STRIDES) if grid[0] * grid[1] == tokens), None)


def _fits(grid: tuple[int, ...], size: tuple[int, int]) -> bool:
    return any(candidate == tuple(grid) for candidate in _grids(size, range(1, max(size) + 1)))


def _grids(size: tuple[int, int], strides: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Grids of each stride, the last row and column kept (rounding up) or dropped."""
    height, width = size
    for stride in strides:
        yield -(-height // stride), -(-width // stride)
        yield height // stride, width // stride
