"""A pinhole camera, and a painter that draws shapes given in metres into an image and its label map at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

SKY, BUILDING, VEGETATION, ROAD, PAVEMENT, POLE, SIGN, CAR, PERSON = range(9)
NEAR, FAR = 1.2, 160.0  # metres between which the ground is drawn

Color = tuple[int, int, int]
Point = tuple[float, float]


def mix(first: Color, second: Color, share: float) -> Color:
    """``first`` at share 0, ``second`` at share 1."""
    (r, g, b), (s, t, u) = first, second
    return int(r + (s - r) * share), int(g + (t - g) * share), int(b + (u - b) * share)


def vary(rng: Generator, colors: Sequence[Color], spread: float = 14.0) -> Color:
    """One of ``colors``, lighter or darker and slightly off in hue (``spread`` in grey levels)."""
    base = colors[int(rng.random() * len(colors))]
    light, *tint = (rng.standard_normal(4) * spread).tolist()
    r, g, b = (min(255, max(0, int(a + light + d / 3))) for a, d in zip(base, tint, strict=True))
    return r, g, b


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above a flat ground; lengths in metres, ``focal``, ``center`` and ``horizon`` in pixels.

    ``bend`` (1/m) curves the street: a point at depth z moves aside by bend * z^2.
    """

    focal: float
    eye: float
    center: float
    horizon: float
    bend: float

    def point(self, x: float, y: float, z: float) -> Point:
        """Pixel (column, row) of the point x to the right, y above the ground and z ahead."""
        z = max(z, 0.3)
        return self.center + self.focal * (x / z + self.bend * z), self.horizon + self.focal * (self.eye - y) / z


class Painter:
    """Draws into ``image`` (RGB) and ``labels`` (L) of ``size`` (H, W); what is far fades into the haze of the sky."""

    def __init__(self, rng: Generator, camera: Camera, size: tuple[int, int], sky: Color) -> None:
        self.rng = rng
        self.camera = camera
        self.size = size
        self.sky = vary(rng, [sky])
        self.fog = float(rng.choice([0.003, 0.006, 0.012, 0.03], p=[0.3, 0.4, 0.2, 0.1]))
        self.haze = mix(self.sky, (210, 212, 215), 0.6)
        self.image = self._sky()
        self.labels = Image.new("L", size[::-1], SKY)
        self._color = ImageDraw.Draw(self.image)
        self._blend = ImageDraw.Draw(self.image, "RGBA")  # heeds alpha, but is slower
        self._label = ImageDraw.Draw(self.labels)

    def _sky(self) -> Image.Image:
        """A vertical gradient with soft clouds, computed small and enlarged."""
        height, width = self.size
        rows, columns = 12, 16
        haze = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
        low = np.array(mix(self.sky, (225, 225, 225), 0.6), dtype=np.float32)
        field = np.array(self.sky, dtype=np.float32) * (1 - haze) + low * haze
        clouds = np.maximum(self.rng.normal(-0.2, 0.5, (rows, columns, 1)), 0) * self.rng.uniform(0, 80)
        small = np.clip(field + clouds, 0, 255).astype(np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)

    def tone(self, color: Color, z: float) -> Color:
        """``color`` as seen through ``z`` metres of air."""
        return mix(color, self.haze, 1 - exp(-self.fog * z))

    def polygon(self, points: Sequence[Point], z: float, label: int | None, color: Color) -> None:
        """Fill ``points`` (pixels); ``label`` None keeps the labels that are there (a window in a wall)."""
        columns = [column for column, _ in points]
        if max(columns) < 0 or min(columns) > self.size[1]:
            return
        self._color.polygon(points, fill=self.tone(color, z))
        if label is not None:
            self._label.polygon(points, fill=label)

    def ellipse(self, center: Point, radii: Point, z: float, label: int | None, color: Color) -> None:
        """Fill an ellipse; ``center`` and ``radii`` in pixels."""
        (x, y), (a, b) = center, radii
        self._color.ellipse((x - a, y - b, x + a, y + b), fill=self.tone(color, z))
        if label is not None:
            self._label.ellipse((x - a, y - b, x + a, y + b), fill=label)

    def strip(self, left: float, right: float, label: int, color: Color) -> None:
        """A band of ground from near to far, cut into pieces so that it bends and fades."""
        depths = NEAR * (FAR / NEAR) ** np.linspace(0, 1, 9)
        for near, far in pairwise(depths.tolist()):
            self.flat(left, right, near, far, label, color)

    def flat(self, left: float, right: float, near: float, far: float, label: int | None, color: Color) -> None:
        """A rectangle on the ground."""
        point = self.camera.point
        corners = [point(left, 0, near), point(right, 0, near), point(right, 0, far), point(left, 0, far)]
        self.polygon(corners, (near * far) ** 0.5, label, color)

    def shadow(self, left: float, right: float, near: float, far: float, depth: float) -> None:
        """Darken a rectangle of the ground; labels stay."""
        point = self.camera.point
        corners = [point(left, 0, near), point(right, 0, near), point(right, 0, far), point(left, 0, far)]
        self._blend.polygon(corners, fill=(10, 12, 20, int(255 * depth)))

    def upright(
        self, left: float, right: float, low: float, high: float, z: float, label: int | None, color: Color
    ) -> None:
        """A rectangle that faces the camera at depth ``z``."""
        (x0, y1), (x1, y0) = self.camera.point(left, low, z), self.camera.point(right, high, z)
        if x1 < 0 or x0 > self.size[1]:
            return
        box = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        self._color.rectangle(box, fill=self.tone(color, z))
        if label is not None:
            self._label.rectangle(box, fill=label)

    def slab(self, left: float, right: float, y: float, near: float, far: float, label: int, color: Color) -> None:
        """A level rectangle at height ``y``, e.g. the roof of a car."""
        point = self.camera.point
        corners = [point(left, y, near), point(right, y, near), point(right, y, far), point(left, y, far)]
        self.polygon(corners, near, label, color)

    def facade(
        self, x: float, near: float, far: float, low: float, high: float, label: int | None, color: Color
    ) -> None:
        """A rectangle along the street at ``x``."""
        point = self.camera.point
        corners = [point(x, low, near), point(x, high, near), point(x, high, far), point(x, low, far)]
        self.polygon(corners, (near * far) ** 0.5, label, color)
