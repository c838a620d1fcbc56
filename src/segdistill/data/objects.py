"""The things of a street scene.

Each function rolls its dice at once and returns the call that draws the thing later, when the painter has come to its
depth.
"""

from collections.abc import Callable

from segdistill.data.painter import CAR, PERSON, POLE, SIGN, VEGETATION, Color, Painter, mix, vary

PAINTS: tuple[Color, ...] = (
    (200, 200, 204), (40, 42, 48), (120, 122, 126), (160, 36, 40), (40, 66, 120), (232, 230, 224), (70, 92, 70),
    (150, 130, 96),
)  # fmt: skip
CLOTHES: tuple[Color, ...] = (
    (40, 44, 60), (120, 40, 44), (60, 80, 110), (100, 100, 100), (190, 180, 160), (70, 90, 60), (210, 160, 60),
)  # fmt: skip
SKIN: tuple[Color, ...] = ((224, 180, 150), (160, 112, 84), (96, 66, 50))
LEAVES: tuple[Color, ...] = ((70, 98, 48), (96, 116, 56), (52, 78, 50), (134, 108, 52), (110, 120, 84))
METALS: tuple[Color, ...] = ((110, 112, 116), (58, 60, 64), (150, 150, 150), (98, 84, 66), (60, 80, 66))
BOARDS: tuple[Color, ...] = ((190, 40, 44), (40, 80, 170), (226, 226, 222), (220, 180, 40), (44, 110, 70))


def draw_car(paint: Painter, x: float, z: float) -> Callable[[], None]:
    """A car along the street at ``x`` (its middle) and ``z`` (its near end), seen from behind or from the front."""
    rng = paint.rng
    body = vary(rng, PAINTS)
    width, length = float(rng.uniform(1.6, 1.95)), float(rng.uniform(3.6, 4.8))
    roof, waist = float(rng.choice([1.42, 1.5, 1.75, 2.2])), float(rng.uniform(0.8, 0.95))
    glass = mix((34, 40, 50), paint.sky, float(rng.uniform(0, 0.6)))
    lamp: Color = (190, 30, 36) if rng.random() < 0.6 else (240, 235, 205)

    def draw() -> None:
        left, right = x - width / 2, x + width / 2
        flank = right if x < 0 else left  # the side that the camera sees
        shaded = mix(body, (0, 0, 0), 0.25)
        paint.shadow(left - 0.15, right + 0.15, z - 0.3, z + length, 0.55)
        point = paint.camera.point
        ends = (z + 0.5, z + length - 0.9)
        inner = flank - 0.25 if flank == right else flank + 0.25  # the cabin narrows towards the roof
        pillars = [point(flank, waist, z), point(inner, roof, ends[0]), point(inner, roof, ends[1])]
        panes = [point(flank, waist + 0.05, ends[0]), point(inner, roof - 0.1, ends[0] + 0.3)]
        panes += [point(inner, roof - 0.1, ends[1] - 0.2), point(flank, waist + 0.05, ends[1] + 0.2)]
        paint.slab(left, right, waist, z, z + length, CAR, body)
        paint.polygon([*pillars, point(flank, waist, z + length - 0.5)], z, CAR, shaded)
        paint.polygon(panes, z, CAR, glass)
        paint.facade(flank, z, z + length, 0.25, waist, CAR, shaded)
        paint.slab(left + 0.25, right - 0.25, roof, *ends, CAR, mix(body, (255, 255, 255), 0.15))
        for axle in (z + 0.75, z + length - 0.8):
            column, row = paint.camera.point(flank, 0.33, axle)
            scale = paint.camera.focal / axle
            slant = abs(column - paint.camera.center) / paint.camera.focal
            paint.ellipse((column, row), (0.36 * scale * max(0.12, slant), 0.36 * scale), axle, CAR, (24, 24, 26))
        paint.upright(left + 0.08, left + 0.35, 0, 0.4, z, CAR, (24, 24, 26))
        paint.upright(right - 0.35, right - 0.08, 0, 0.4, z, CAR, (24, 24, 26))
        cabin = [point(left, waist, z), point(left + 0.25, roof, z + 0.5), point(right - 0.25, roof, z + 0.5)]
        paint.polygon([*cabin, point(right, waist, z)], z, CAR, body)
        pane = [point(left + 0.16, waist + 0.06, z), point(left + 0.33, roof - 0.1, z + 0.4)]
        pane += [point(right - 0.33, roof - 0.1, z + 0.4), point(right - 0.16, waist + 0.06, z)]
        paint.polygon(pane, z, CAR, glass)
        paint.upright(left, right, 0.25, waist, z, CAR, body)
        paint.upright(left, right, 0.25, 0.42, z, CAR, shaded)
        for a in (left + 0.05, right - 0.4):
            paint.upright(a, a + 0.35, waist - 0.28, waist - 0.12, z, CAR, lamp)
        paint.upright(x - 0.26, x + 0.26, 0.45, 0.57, z, CAR, (235, 235, 225))

    return draw


def draw_crossing_car(paint: Painter, x: float, z: float) -> Callable[[], None]:
    """A car across the street, seen from its side; ``x`` is its left end."""
    body, length = vary(paint.rng, PAINTS), float(paint.rng.uniform(3.8, 4.6))

    def draw() -> None:
        point = paint.camera.point
        paint.shadow(x, x + length, z - 0.2, z + 1.6, 0.5)
        front = [(0, 0.3), (0, 0.8), (0.7, 0.9), (1.3, 1.45)]
        back = [(length - 1.2, 1.45), (length - 0.4, 0.9), (length, 0.8), (length, 0.3)]
        paint.polygon([point(x + a, y, z) for a, y in front + back], z, CAR, body)
        windows = [(0.95, 0.92), (1.4, 1.36), (length - 1.3, 1.36), (length - 0.7, 0.92)]
        paint.polygon([point(x + a, y, z) for a, y in windows], z, CAR, mix((34, 40, 50), paint.sky, 0.3))
        paint.upright(x + length / 2 - 0.05, x + length / 2 + 0.05, 0.9, 1.4, z, CAR, body)
        radius = 0.34 * paint.camera.focal / z
        for a in (0.8, length - 0.8):
            paint.ellipse(point(x + a, 0.33, z), (radius, radius), z, CAR, (24, 24, 26))
            paint.ellipse(point(x + a, 0.33, z), (radius / 2, radius / 2), z, CAR, (140, 140, 145))

    return draw


def draw_person(paint: Painter, x: float, z: float) -> Callable[[], None]:
    """A grown-up or a child, standing or walking."""
    rng = paint.rng
    tall = float(rng.choice([rng.uniform(1.55, 1.9), rng.uniform(1.05, 1.4)], p=[0.8, 0.2]))
    coat, trousers, skin = vary(rng, CLOTHES, 22), vary(rng, CLOTHES, 22), vary(rng, SKIN)
    hair = vary(rng, [(40, 30, 26), (120, 90, 60), (170, 165, 160)])
    stride, swing = float(rng.uniform(-0.28, 0.28)), float(rng.uniform(-0.2, 0.2))
    broad = tall * float(rng.uniform(0.115, 0.16))

    def draw() -> None:
        def body(points: list[tuple[float, float]], color: Color) -> None:
            paint.polygon([paint.camera.point(x + a, y * tall, z) for a, y in points], z, PERSON, color)

        paint.shadow(x - 0.3, x + 0.3, z - 0.15, z + 0.3, 0.4)
        for way in (-1, 1):
            foot = way * (abs(stride) + 0.06)
            body([(way * 0.02 - 0.09, 0.5), (way * 0.02 + 0.09, 0.5), (foot + 0.07, 0), (foot - 0.07, 0)], trousers)
        for way in (-1, 1):
            hand = way * (broad + 0.05) + swing * way
            arm = [(way * broad * 0.9 - 0.05, 0.8), (way * broad * 0.9 + 0.05, 0.8), (hand + 0.04, 0.45)]
            body([*arm, (hand - 0.04, 0.45)], mix(coat, (0, 0, 0), 0.15))
        body([(-broad, 0.82), (broad, 0.82), (broad * 0.85, 0.44), (-broad * 0.85, 0.44)], coat)
        scale = tall * paint.camera.focal / z
        column, row = paint.camera.point(x, 0.92 * tall, z)
        paint.ellipse((column, row), (0.055 * scale, 0.075 * scale), z, PERSON, hair)
        paint.ellipse((column, row + 0.02 * scale), (0.045 * scale, 0.055 * scale), z, PERSON, skin)

    return draw


def draw_tree(paint: Painter, x: float, z: float) -> Callable[[], None]:
    """A trunk with a crown of overlapping blobs, or a bush; all of it vegetation."""
    rng = paint.rng
    leaves = vary(rng, LEAVES)
    bush = rng.random() < 0.25
    tall = float(rng.uniform(0.8, 2.0) if bush else rng.uniform(3.5, 9))
    wide = tall * float(rng.uniform(0.22, 0.4))
    blobs = rng.normal(0, 0.42, (9 if z < 35 else 5, 4)).tolist()

    def draw() -> None:
        scale = paint.camera.focal / z
        paint.shadow(x - wide, x + wide, z - wide / 2, z + wide / 2, 0.35)
        if not bush:
            paint.upright(x - 0.02 * tall, x + 0.02 * tall, 0, 0.6 * tall, z, VEGETATION, (78, 64, 52))
        for a, b, size, tone in blobs:
            column, row = paint.camera.point(x + a * wide, tall * (0.5 if bush else 0.72) + b * wide, z)
            radius = wide * (0.55 + 0.25 * abs(size)) * scale
            color = mix(leaves, (20, 30, 16) if tone < 0 else (190, 196, 130), min(0.5, abs(tone) * 0.6))
            paint.ellipse((column, row), (radius, radius * 0.85), z, VEGETATION, color)

    return draw


def draw_post(paint: Painter, x: float, z: float) -> Callable[[], None]:
    """A pole: bare, a street lamp, or with a sign or a traffic light on it."""
    rng = paint.rng
    metal, half = vary(rng, METALS), float(rng.uniform(0.05, 0.11))
    kinds = ["bare", "lamp", "disc", "triangle", "board", "light"]
    kind = str(rng.choice(kinds, p=[0.12, 0.22, 0.2, 0.16, 0.16, 0.14]))
    tall = float(rng.uniform(5, 8) if kind in ("bare", "lamp") else rng.uniform(2.3, 3.4))
    board, size = vary(rng, BOARDS), float(rng.uniform(0.34, 0.52))
    inner: Color = (235, 235, 230) if rng.random() < 0.6 else (40, 44, 60)
    inward = -1 if x > 0 else 1

    def draw() -> None:
        scale, point = paint.camera.focal / z, paint.camera.point
        paint.upright(x - half, x + half, 0, tall, z, POLE, metal)
        column, row = point(x, tall, z)
        if kind == "lamp":
            low, high = sorted((x, x + inward * 1.6))
            paint.upright(low, high, tall - 0.14, tall, z, POLE, metal)
            paint.upright(x + inward * 1.6 - 0.3, x + inward * 1.6 + 0.3, tall - 0.22, tall, z, POLE, (205, 205, 195))
        elif kind == "disc":
            paint.ellipse((column, row), (size * scale, size * scale), z, SIGN, board)
            paint.ellipse((column, row), (0.68 * size * scale, 0.68 * size * scale), z, SIGN, inner)
        elif kind == "triangle":
            for share, color in ((1.15, board), (0.7, inner)):
                r = share * size * scale
                corners = [(column - r, row + 0.6 * r), (column + r, row + 0.6 * r), (column, row - r)]
                paint.polygon(corners, z, SIGN, color)
        elif kind == "board":
            paint.upright(x - 1.5 * size, x + 1.5 * size, tall - size, tall + size, z, SIGN, board)
            paint.upright(x - size, x + size, tall - 0.2 * size, tall + 0.15 * size, z, SIGN, inner)
        elif kind == "light":
            paint.upright(x - 0.2, x + 0.2, tall - 0.5, tall + 0.5, z, SIGN, (30, 32, 34))
            for lamp, color in enumerate(((60, 150, 80), (210, 170, 50), (220, 40, 40))):
                at = point(x, tall + (lamp - 1) * 0.3, z)
                paint.ellipse(at, (0.11 * scale, 0.11 * scale), z, SIGN, color)

    return draw
