"""Draws one toy street scene: a perspective road with kerbs, buildings, trees, cars, poles, signs and people.

Everything lives in metres (x to the right, y up, z ahead) and goes through one pinhole camera, so that sizes, occlusion
and position agree as they do in a photograph. Colours of the classes overlap on purpose: a grey patch may be road,
pavement, wall, car or pole, and only its shape and surroundings tell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from segdistill.data.objects import draw_car, draw_crossing_car, draw_person, draw_post, draw_tree
from segdistill.data.painter import BUILDING, PAVEMENT, ROAD, VEGETATION, Camera, Color, Painter, mix, vary

VOID = 255
GREYS: tuple[Color, ...] = ((92, 92, 96), (120, 118, 114), (70, 72, 78), (138, 132, 124))
WALLS: tuple[Color, ...] = (
    (150, 88, 70), (196, 178, 148), (128, 128, 132), (222, 216, 204), (110, 92, 80), (168, 148, 96), (92, 104, 116),
)  # fmt: skip
SKIES: tuple[Color, ...] = ((120, 168, 222), (206, 212, 218), (168, 182, 196), (232, 196, 160), (96, 112, 132))
GRASS: tuple[Color, ...] = ((78, 104, 52), (104, 112, 60), (60, 88, 46))
# How strongly fine, middle and coarse noise mark each class's surface (grey levels of 255), in the order of classes.
GRAIN = np.zeros((3, 256), dtype=np.float32)
GRAIN[:, :9] = np.array(
    [[0.5, 4, 12, 6, 5, 3, 2, 2, 4], [1, 4, 14, 3, 4, 2, 2, 2, 3], [5, 5, 6, 6, 7, 2, 1, 2, 2]], dtype=np.float32
)


@dataclass
class Street:
    """Widths in metres from the camera's lane outwards, the same for the whole scene."""

    road: tuple[float, float]
    pavement: float
    things: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def draw(self) -> None:
        """Draw what was collected, the farthest first."""
        for _, thing in sorted(self.things, key=lambda entry: -entry[0]):
            thing()
        self.things.clear()


def draw_scene(rng: Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One street scene.

    Args:
        rng: the only source of chance; the same state draws the same scene.
        size: (H, W) in pixels.

    Returns:
        image uint8 (H, W, 3) RGB and mask uint8 (H, W) of class indices, 255 = void (the own bonnet).
    """
    height, width = size
    paint = Painter(rng, _camera(rng, 2 * height, 2 * width), (2 * height, 2 * width), SKIES[rng.integers(len(SKIES))])
    street = Street(
        road=(-float(rng.uniform(3.0, 8.0)), float(rng.uniform(3.0, 5.5))), pavement=float(rng.uniform(1.6, 3.6))
    )
    _ground(paint, street)
    _blocks(paint, street)
    _traffic(paint, street)
    _furniture(paint, street)
    street.draw()
    _bonnet(paint)
    # Drawn at twice the size and shrunk by a box filter, which antialiases. Labels must not mix: they are picked.
    image = np.array(paint.image.reduce(2), dtype=np.float32)
    mask = np.asarray(paint.labels)[1::2, 1::2].copy()
    return _photograph(rng, image, mask), mask


def _camera(rng: Generator, height: int, width: int) -> Camera:
    return Camera(
        focal=height * float(rng.uniform(1.0, 1.4)),
        eye=float(rng.uniform(1.25, 2.0)),
        center=width * float(rng.uniform(0.36, 0.64)),
        horizon=height * float(rng.uniform(0.36, 0.5)),
        bend=float(rng.normal(0, 0.0012)),
    )


def _ground(paint: Painter, street: Street) -> None:
    """Verge, pavements, kerbs, road and its markings."""
    rng = paint.rng
    left, right = street.road
    verge = (VEGETATION, vary(rng, GRASS)) if rng.random() < 0.5 else (PAVEMENT, vary(rng, GREYS))
    asphalt = vary(rng, GREYS)
    slabs = mix(vary(rng, GREYS), (190, 176, 160), float(rng.uniform(0, 0.6)))
    paint.strip(-80, 80, *verge)
    paint.strip(left - street.pavement, right + street.pavement, PAVEMENT, slabs)
    kerb = mix(slabs, (225, 225, 220), float(rng.uniform(0, 0.5)))
    paint.strip(left - 0.2, right + 0.2, PAVEMENT, kerb)
    paint.strip(left, right, ROAD, asphalt)
    white = mix(asphalt, (245, 240, 225), float(rng.uniform(0.4, 1.0)))
    lines = [(left + right) / 2] if right - left < 9 else [left + (right - left) / 3, left + 2 * (right - left) / 3]
    phase = float(rng.uniform(0, 6))
    for x in lines:
        for z in np.arange(2.5 + phase, 70, 6.0).tolist():
            paint.flat(x - 0.09, x + 0.09, z, z + 2.6, ROAD, white)
    if rng.random() < 0.25:  # a zebra crossing: white like a kerb, but road
        z = float(rng.uniform(6, 18))
        for x in np.arange(left + 0.3, right - 0.5, 1.0).tolist():
            paint.flat(x, x + 0.5, z, z + 3, ROAD, white)
    for _ in range(int(rng.integers(0, 5))):  # patches of newer or wet asphalt
        x, z = float(rng.uniform(left, right - 1)), float(rng.uniform(3, 25))
        tone = mix(asphalt, (30, 30, 34) if rng.random() < 0.6 else (150, 148, 145), 0.3)
        paint.flat(x, x + float(rng.uniform(0.5, right - x)), z, z + float(rng.uniform(0.5, 5)), ROAD, tone)
    for _ in range(int(rng.integers(0, 5))):  # shadows of what stands outside the picture
        z = float(rng.uniform(3, 40))
        paint.shadow(-30, 30, z, z + float(rng.uniform(0.5, 8)), float(rng.uniform(0.25, 0.5)))


def _blocks(paint: Painter, street: Street) -> None:
    """Rows of buildings on both sides with gaps of trees, and something at the end of the street."""
    rng = paint.rng
    density = float(rng.uniform(0.35, 0.95))
    for x in np.arange(-70, 70, float(rng.uniform(8, 16))):
        if rng.random() < 0.7:
            tall = float(rng.uniform(4, 26))
            color = vary(rng, WALLS) if rng.random() < density else None
            street.things.append((140.0, _far_block(paint, float(x), tall, color)))
    for side in (-1, 1):
        base = street.road[0] - street.pavement if side < 0 else street.road[1] + street.pavement
        lit = float(rng.uniform(0.55, 1.1))
        z = float(rng.uniform(1.5, 8))
        while z < 110:
            length = float(rng.uniform(6, 18))
            x = base + side * float(rng.choice([0.0, 0.0, 1.0, 3.0]))
            if rng.random() < density:
                street.things.append((z + length, _building(paint, x, side, (z, z + length), lit)))
            elif rng.random() < 0.75:
                for _ in range(int(rng.integers(1, 4))):
                    at = float(rng.uniform(z, z + length))
                    street.things.append((at, draw_tree(paint, x + side * float(rng.uniform(1, 5)), at + 2)))
            z += length + float(rng.choice([0.0, 0.0, 2.0, 5.0]))
    street.draw()


def _far_block(paint: Painter, x: float, tall: float, color: Color | None) -> Callable[[], None]:
    label, tone = (BUILDING, color) if color else (VEGETATION, vary(paint.rng, GRASS))
    return lambda: paint.upright(x, x + 14, 0, tall if color else tall * 0.4, 140, label, tone)


def _building(paint: Painter, x: float, side: int, depth: tuple[float, float], lit: float) -> Callable[[], None]:
    """A facade along the street and the end wall that faces the camera, with windows on both."""
    rng = paint.rng
    tall = float(rng.choice([rng.uniform(3, 6), rng.uniform(6, 12), rng.uniform(10, 28)]))
    wall = vary(rng, WALLS)
    glass = mix((40, 48, 60), paint.sky, float(rng.uniform(0, 0.7)))
    storey, bay = float(rng.uniform(2.7, 3.6)), float(rng.uniform(1.8, 3.4))
    shop = mix(wall, vary(rng, WALLS), 0.8) if rng.random() < 0.4 else None
    banner: Color | None = (200, 40, 50) if rng.random() < 0.12 else None
    near, far = depth

    def draw() -> None:
        face, end = mix((0, 0, 0), wall, min(1.0, lit)), mix((0, 0, 0), wall, min(1.0, 1.5 - 0.6 * lit))
        outer = (x, x + side * 25)
        paint.upright(min(outer), max(outer), 0, tall, near, BUILDING, end)
        paint.facade(x, near, far, 0, tall, BUILDING, face)
        if shop:
            paint.facade(x, near, far, 0, 3, None, shop)
        if banner:  # coloured like a sign, but part of the house
            paint.facade(x, near + 1, near + 3, 3.1, 4.2, None, banner)
        if near > 40:  # windows would be smaller than a pixel
            return
        column_of = paint.camera.point
        floors = np.arange(0.9, tall - 1.6, storey).tolist()
        for z in np.arange(near + 0.7, far - 1.2, bay).tolist():
            if 0 < column_of(x, 0, z + bay)[0] < paint.size[1]:
                for y in floors:
                    paint.facade(x, z, z + bay * 0.45, y, y + 1.5, None, glass)
        for step in np.arange(0.9, 7, bay).tolist():
            edges = sorted((x + side * step, x + side * (step + 1.1)))
            if 0 < column_of(x + side * step, 0, near)[0] < paint.size[1]:
                for y in floors:
                    paint.upright(edges[0], edges[1], y, y + 1.5, near, None, mix(glass, end, 0.3))

    return draw


def _traffic(paint: Painter, street: Street) -> None:
    rng = paint.rng
    left, right = street.road
    parked: Sequence[float] = [x for x in (left + 1.1, right - 1.1) if rng.random() < 0.6]
    for x in parked:
        z = float(rng.uniform(4, 12))
        while z < 60:
            if rng.random() < 0.6:
                street.things.append((z, draw_car(paint, x, z)))
            z += float(rng.uniform(5.2, 9))
    for _ in range(int(rng.integers(0, 4))):
        z = float(rng.uniform(7, 50))
        x = float(rng.uniform(left + 1.2, right - 1.2))
        street.things.append((z, draw_car(paint, x, z)))
    if rng.random() < 0.15:
        z = float(rng.uniform(9, 25))
        street.things.append((z, draw_crossing_car(paint, float(rng.uniform(left - 3, right - 2)), z)))


def _furniture(paint: Painter, street: Street) -> None:
    """Posts, signs, street trees and people, mostly on the pavements."""
    rng = paint.rng
    left, right = street.road

    def spot(near: float, far: float, on_road: float = 0.0) -> tuple[float, float]:
        z = near + (far - near) * float(rng.random()) ** 1.6
        if rng.random() < on_road:
            return float(rng.uniform(left, right)), z
        across = float(rng.uniform(0.25, max(0.5, street.pavement - 0.3)))
        return (left - across, z) if rng.random() < 0.5 else (right + across, z)

    for _ in range(int(rng.integers(2, 8))):
        x, z = spot(4, 45)
        street.things.append((z, draw_post(paint, x, z)))
    for _ in range(int(rng.integers(0, 5))):
        x, z = spot(7, 60)
        street.things.append((z, draw_tree(paint, x, z)))
    for _ in range(int(rng.integers(0, 9))):
        x, z = spot(4.5, 32, on_road=0.15)
        street.things.append((z, draw_person(paint, x, z)))


def _bonnet(paint: Painter) -> None:
    if paint.rng.random() < 0.5:
        height, width = paint.size
        top = height * float(paint.rng.uniform(0.9, 0.97))
        box = (-0.1 * width, top, 1.1 * width, top + 0.6 * height)
        ImageDraw.Draw(paint.image).ellipse(box, fill=vary(paint.rng, GREYS))
        ImageDraw.Draw(paint.labels).ellipse(box, fill=VOID)


def _photograph(rng: Generator, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Surface grain, light, colour cast, contrast and sensor noise; float (H, W, 3) in, uint8 out."""
    height, width = mask.shape
    grain = GRAIN[0].take(mask) * _noise(rng, (height, width))
    for level, step in ((1, 3), (2, 12)):
        coarse = rng.standard_normal((height // step + 2, width // step + 2), dtype=np.float32)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain += GRAIN[level].take(mask) * np.asarray(smooth)
    slope = 1 + np.linspace(-1, 1, width, dtype=np.float32) * float(rng.normal(0, 0.08))
    gain = float(rng.uniform(0.6, 1.2)) * rng.uniform(0.88, 1.12, 3)
    contrast = float(rng.uniform(0.7, 1.15))
    image += grain[..., None]
    image *= (slope[:, None] * (gain * contrast)).astype(np.float32)
    image += _noise(rng, image.shape) * float(rng.uniform(1.5, 8))
    image += 118 * (1 - contrast)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _noise(rng: Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of mean 0 and deviation 1: the sum of two uniform bytes, five times as fast as a normal distribution."""
    values = np.frombuffer(rng.bytes(2 * int(np.prod(shape))), dtype=np.int8).reshape(2, *shape)
    summed: np.ndarray = np.add(values[0], values[1], dtype=np.float32)
    return summed * np.float32(1 / 104.5)
