"""How a bundle's network is built: what ``SegModel`` takes, as plain values that have been checked."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from segdistill.bundle.reading import listed, printable
from segdistill.bundle.shipped import BLOCK, made
from segdistill.models.network import SegModel

MOST_PLACES = 64  # taps, or places of blocks


@dataclass(frozen=True)
class Recipe:
    """The arguments of ``SegModel``; ``network`` and the values of ``attention`` are what ``shipped.made`` reads."""

    network: Any
    taps: Mapping[str, str]
    attention: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    channel_order: str
    divisor: int
    resize: float

    def model(self, network: nn.Module | None = None) -> SegModel:
        """Build it, in eval; around ``network`` if that is given.

        Raises:
            UserError, ValueError, TypeError, KeyError: the values do not make a network; constructors may raise others.
        """
        return SegModel(
            made("student", self.network) if network is None else network,
            taps=self.taps,
            mean=self.mean,
            std=self.std,
            scale=self.scale,
            channel_order=self.channel_order,
            divisor=self.divisor,
            attention={place: partial(made, BLOCK, block) for place, block in self.attention.items()},
            resize=self.resize,
        ).eval()


def recipe_of(content: Mapping[str, Any]) -> Recipe:
    """The recipe in ``model.json``.

    Raises:
        ValueError, TypeError, KeyError: something is missing or is not what it must be.
    """
    attention = dict(_blocks(content.get("attention") or {}))
    taps = content["taps"] or {}
    if not isinstance(taps, dict) or len(taps) > MOST_PLACES or len(attention) > MOST_PLACES:
        raise ValueError(f"taps and attention: must be mappings of at most {MOST_PLACES} names")
    return Recipe(
        network=content["network"],
        taps={printable(name): printable(path) for name, path in taps.items()},
        attention=attention,
        mean=_three(content["mean"], -1e6),
        std=_three(content["std"], 1e-6),
        scale=_number(content["scale"], 1e-6, 1e6),
        channel_order=printable(content["channel_order"]),
        divisor=int(_number(content.get("divisor", 1), 1, 256)),
        resize=_number(content.get("resize", 1.0), 0.05, 4),
    )


def _blocks(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Places and their blocks; a path such as ``fusion.spread`` is nested, and null is a place that is switched off."""
    if node is None:
        return
    if not isinstance(node, dict):
        raise TypeError(f"attention.{place[:60]} must be a mapping")
    if "_target_" in node:
        yield printable(place), node
        return
    for name, inner in node.items():
        yield from _blocks(inner, f"{place}.{name}" if place else name)


def _three(value: Any, least: float) -> tuple[float, ...]:
    if len(listed(value)) != 3:
        raise ValueError(f"{str(value)[:60]}: must be three numbers")
    return tuple(_number(one, least, 1e6) for one in value)


def _number(value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{str(value)[:60]} must be a number from {least:g} to {most:g}")
    return float(value)
