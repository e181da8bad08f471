"""Render what a 360° camera stores in a lecture room, and the regular picture that has to come out of it.

The frames follow from the lens formula `r = f * theta` and from nothing else: no part of Hugin has a hand in them, so
the pipeline's pictures can be held against geometry. For each frame two files are written:

    DIR/frames/room-1.jpg   6912x3456, the left lens; the right lens is covered, as the camera was used
    DIR/truth/room-1.png    the same room seen directly through a regular lens, as pc.pto asks for it

and once DIR/truth/lines.json: where straight edges of the room have to be in that view. The camera stores its
pictures mirrored, as one does that its user looks into; the pipeline's last stage puts that right.

Directions are (right, up, forward), lengths are metres, angles degrees.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Vector = Sequence[float] | Floats
    Painter = Callable[["Brush", int], None]

FRAME = (6912, 3456)
"""Width and height of a frame in pixels; each lens has one half. flat.pto says the same."""

LENS_RADIUS = 1690.0
LENS_FOV = 200.0
"""The image circle: its radius in pixels, and the angle from rim to rim."""

VIEW = (1600, 1200)
VIEW_HFOV = 90.0
"""The regular view: pixels, and its horizontal angle. pc.pto says the same."""

CAMERA = np.array([0.9, 1.45, 0.5])
LENS_YAW, LENS_TILT = -42.0, -12.0
"""The lens looks to the left of the board and down; pc.pto levels that and turns to the board."""

VIEW_YAW = -8.0

ROOM_LOW, ROOM_HIGH = np.array([-4.4, 0.0, -4.0]), np.array([4.4, 3.1, 4.0])
BOARD_LOW, BOARD_HIGH = np.array([-2.3, 0.95, 3.96]), np.array([2.3, 2.35, 3.96])
BOARD_RIM = 0.10
FLAT = np.array([1.0, 1.0, 0.0])
POSTER_LOW, POSTER_HIGH = np.array([2.6, 1.2, 3.97]), np.array([3.9, 2.2, 3.97])
WINDOWS = tuple((z, z + 1.5) for z in (-3.4, -1.5, 0.4, 2.3))
WINDOW_SILL, WINDOW_TOP = 0.9, 2.6

TILE = 128
"""Pixels: pictures are rendered in squares, in each of which only few surfaces can be seen."""


# ------------------------------------------------------------------------------------------------ the room's surfaces


class Brush:
    """Draws on one surface in metres, from its lower left corner; twice as large as needed, for smooth edges."""

    def __init__(self, width: float, height: float, density: int, ground: str) -> None:
        self._scale = 2 * density
        self._height = height
        size = (round(width * self._scale), round(height * self._scale))
        self.width, self.height = width, height
        self._image = Image.new("RGB", size, ground)
        self._draw = ImageDraw.Draw(self._image)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle that has its lower left corner at (x, y)."""
        left, bottom = self._pixel(x, y)
        right, top = self._pixel(x + width, y + height)
        self._draw.rectangle((left, top, right - 1, bottom - 1), colour)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: str) -> None:
        """Draw a line through points."""
        pixels = [self._pixel(x, y) for x, y in points]
        self._draw.line(pixels, colour, max(1, round(width * self._scale)), joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fill a circle around (x, y)."""
        (left, top), (right, bottom) = self._pixel(x - radius, y + radius), self._pixel(x + radius, y - radius)
        self._draw.ellipse((left, top, right, bottom), colour)

    def text(self, x: float, y: float, size: float, words: str, colour: str) -> None:
        """Write words with their baseline's left end at (x, y)."""
        font = ImageFont.load_default(size * self._scale)
        self._draw.text(self._pixel(x, y), words, colour, font, anchor="ls")

    def finished(self) -> NDArray[np.uint8]:
        """Return the pixels at their final density, the top row first."""
        return np.asarray(self._image.reduce(2))

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self._scale), round((self._height - y) * self._scale)


@dataclass(frozen=True)
class Surface:
    """A rectangle in space, and what is painted on it.

    Attributes:
        corner: its lower left corner, for somebody who looks at its front.
        right: the vector along its lower edge.
        up: the vector along its left edge.
        ground: its colour.
        paint: what else is on it, given a brush and the number of the frame.
        density: pixels per metre.
    """

    corner: Floats
    right: Floats
    up: Floats
    ground: str
    paint: Painter
    density: int = 160

    def texture(self, frame: int) -> NDArray[np.uint8]:
        """Return its pixels in a frame."""
        width, height = (float(np.linalg.norm(edge)) for edge in (self.right, self.up))
        brush = Brush(width, height, self.density, self.ground)
        self.paint(brush, frame)
        return brush.finished()


def surface(corner: Vector, right: Vector, up: Vector, ground: str, paint: Painter, *, density: int = 160) -> Surface:
    """Return a surface from plain numbers."""
    as_arrays = [np.array(vector, np.float32) for vector in (corner, right, up)]
    return Surface(as_arrays[0], as_arrays[1], as_arrays[2], ground, paint, density)


def plain(_brush: Brush, _frame: int) -> None:
    """Paint nothing."""


def paint_front(brush: Brush, frame: int) -> None:
    """Paint the wall behind the board: a wainscot, and a clock that goes on from frame to frame."""
    brush.rectangle(0, 0, brush.width, 0.12, "#5d4c3c")
    x, y = 7.55, 2.62
    brush.disc(x, y, 0.23, "#2b2b2b")
    brush.disc(x, y, 0.20, "#fbfbf6")
    for angle, length in ((frame * 0.55, 0.17), (2.1 + frame * 0.046, 0.11)):
        brush.line([(x, y), (x + length * math.sin(angle), y + length * math.cos(angle))], 0.022, "#222222")
    brush.rectangle(0.35, 0.12, 0.95, 2.05, "#7c6247")
    brush.rectangle(0.41, 0.12, 0.83, 1.99, "#a58562")
    brush.disc(1.15, 1.1, 0.03, "#e3d9a8")


BOARD_TEXT = (
    "a fisheye lens:",
    "    r = f * angle",
    "a regular lens:",
    "    r = f * tan(angle)",
)


def paint_board(brush: Brush, frame: int) -> None:
    """Paint a wooden frame, a ruled grid with a curve, and one more line of text in each frame."""
    rim = BOARD_RIM
    brush.rectangle(rim, rim, brush.width - 2 * rim, brush.height - 2 * rim, "#1f4a3c")
    for column in range(12):
        brush.rectangle(0.20 + 0.15 * column, 0.22, 0.012, 0.96, "#8fb5a5")
    for row in range(7):
        brush.rectangle(0.20, 0.22 + 0.158 * row, 1.662, 0.012, "#8fb5a5")
    steps = [0.20 + 1.65 * step / 60 for step in range(61)]
    brush.line([(x, 0.68 + 0.36 * math.sin(4 * x + frame)) for x in steps], 0.025, "#ffd86b")
    for row, words in enumerate(BOARD_TEXT[: 1 + (frame - 1) % 4]):
        brush.text(2.15, 1.12 - 0.25 * row, 0.17, words, "#f2f5ee")
    brush.text(3.78, 0.15, 0.11, f"frame {frame}", "#ff9f80")


def paint_poster(brush: Brush, frame: int) -> None:
    """Paint a poster."""
    brush.rectangle(0.04, 0.04, brush.width - 0.08, brush.height - 0.08, "#fdfdfb")
    for bar, height in enumerate((0.25, 0.42, 0.33, 0.56, 0.48)):
        brush.rectangle(0.16 + 0.21 * bar, 0.14, 0.14, height + 0.02 * (frame % 3), "#3973ac")
    brush.text(0.16, 0.82, 0.11, "Room 360", "#333333")


def paint_windows(brush: Brush, _frame: int) -> None:
    """Paint four windows with their bars."""
    for low, high in WINDOWS:
        x, width, height = low - ROOM_LOW[2], high - low, WINDOW_TOP - WINDOW_SILL
        brush.rectangle(x, WINDOW_SILL, width, height, "#fafafa")
        for pane in range(2):
            left = x + 0.07 + pane * (width - 0.07) / 2
            brush.rectangle(left, WINDOW_SILL + 0.07, (width - 0.21) / 2, height - 0.14, "#a9cfec")
            brush.rectangle(left, WINDOW_SILL + 0.07, (width - 0.21) / 2, 0.45, "#87a878")
    brush.rectangle(0, 0, brush.width, 0.12, "#5d4c3c")


def paint_shelf(brush: Brush, _frame: int) -> None:
    """Paint shelves with books on a side wall."""
    colours = ("#8c3b3b", "#3b5b8c", "#3b8c5b", "#c09a3e", "#6b4a7d", "#bdb7a8")
    brush.rectangle(0, 0, brush.width, 0.12, "#5d4c3c")
    brush.rectangle(1.0, 0.12, 4.2, 2.1, "#6b5138")
    for row in range(5):
        y = 0.2 + 0.4 * row
        brush.rectangle(1.06, y, 4.08, 0.34, "#3a2c20")
        for book in range(44):
            size = 0.22 + 0.02 * ((book * 7 + row * 3) % 6)
            brush.rectangle(1.1 + 0.09 * book, y, 0.075, size, colours[(book * 5 + row * 11) % 6])


def paint_back(brush: Brush, _frame: int) -> None:
    """Paint the wall behind the camera."""
    brush.rectangle(0, 0, brush.width, 0.12, "#5d4c3c")


def paint_floor(brush: Brush, frame: int) -> None:
    """Paint boards, and the sun that wanders through the windows."""
    for board in range(int(brush.width / 0.22) + 1):
        brush.rectangle(0.22 * board, 0, 0.21, brush.height, ("#a98b66", "#a08260", "#b0926c")[board * 5 % 3])
    for low, high in WINDOWS:
        brush.rectangle(0.25 + 0.06 * frame, low - ROOM_LOW[2] + 0.1, 1.6, high - low - 0.2, "#cfb385")


def paint_ceiling(brush: Brush, _frame: int) -> None:
    """Paint panels and lamps."""
    for x in np.arange(0, brush.width, 0.8):
        brush.rectangle(float(x), 0, 0.025, brush.height, "#c4c4be")
    for y in np.arange(0, brush.height, 0.8):
        brush.rectangle(0, float(y), brush.width, 0.025, "#c4c4be")
    for x in (1.625, 4.025, 6.425):
        for y in (0.825, 3.225, 5.625):
            brush.rectangle(x, y, 0.775, 1.575, "#ffffff")


def walls() -> Iterator[Surface]:
    """Yield the room's six sides, each seen from inside."""
    (x0, y0, z0), (x1, y1, z1) = ROOM_LOW, ROOM_HIGH
    width, height, depth = ROOM_HIGH - ROOM_LOW
    yield surface((x0, y0, z1), (width, 0, 0), (0, height, 0), "#e6e0d2", paint_front)
    yield surface((x1, y0, z0), (-width, 0, 0), (0, height, 0), "#d9d3c5", paint_back)
    yield surface((x0, y0, z0), (0, 0, depth), (0, height, 0), "#dcd6c6", paint_windows)
    yield surface((x1, y0, z1), (0, 0, -depth), (0, height, 0), "#d6cfbf", paint_shelf)
    yield surface((x0, y0, z0), (width, 0, 0), (0, 0, depth), "#a98b66", paint_floor, density=120)
    yield surface((x0, y1, z1), (width, 0, 0), (0, 0, -depth), "#ecebe4", paint_ceiling, density=120)


def hangings() -> Iterator[Surface]:
    """Yield what hangs on the front wall."""
    for low, high, ground, paint, density in (
        (BOARD_LOW, BOARD_HIGH, "#b98a52", paint_board, 320),
        (POSTER_LOW, POSTER_HIGH, "#444444", paint_poster, 240),
    ):
        width, height, _ = high - low
        yield surface(low, (width, 0, 0), (0, height, 0), ground, paint, density=density)


def box(low: Sequence[float], high: Sequence[float], top: str, side: str, end: str) -> Iterator[Surface]:
    """Yield the five visible sides of a piece of furniture."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    width, height, depth = x1 - x0, y1 - y0, z1 - z0
    yield surface((x0, y1, z0), (width, 0, 0), (0, 0, depth), top, plain)
    yield surface((x0, y0, z0), (width, 0, 0), (0, height, 0), side, plain)
    yield surface((x1, y0, z1), (-width, 0, 0), (0, height, 0), side, plain)
    yield surface((x1, y0, z0), (0, 0, depth), (0, height, 0), end, plain)
    yield surface((x0, y0, z1), (0, 0, -depth), (0, height, 0), end, plain)


def furniture() -> Iterator[Surface]:
    """Yield a lectern in front of the board, and desks."""
    yield from box((1.5, 0, 3.0), (2.2, 0.82, 3.4), "#c49a6c", "#8d6a45", "#7b5b3a")
    for z in (-2.9, -1.5, 1.75):
        for x in (-3.6, -1.3, 1.9):
            yield from box((x, 0.70, z), (x + 1.7, 0.75, z + 0.6), "#c9b28c", "#8f7a5a", "#84704f")
            for leg in (x + 0.08, x + 1.56):
                yield from box((leg, 0, z + 0.1), (leg + 0.06, 0.70, z + 0.5), "#555555", "#555a60", "#4a4e54")


# ------------------------------------------------------------------------------------------------ from pixel to surface


def turn(yaw: float, tilt: float) -> Floats:
    """Return the matrix from what a camera sees, turned right by `yaw` and up by `tilt`, to directions in the room."""
    a, b = math.radians(yaw), math.radians(tilt)
    yawed = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    tilted = np.array([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    product: Floats = (yawed @ tilted).astype(np.float32)
    return product


def centred(rows: range, width: int, height: int) -> tuple[Floats, Floats]:
    """Return how far each pixel of some rows is right of and above the middle of a picture."""
    x = np.arange(width, dtype=np.float32) - (width - 1) / 2
    y = (height - 1) / 2 - np.array(rows, np.float32)
    right, up = np.meshgrid(x, y)
    return right, up


@dataclass(frozen=True)
class Picture:
    """A way to take a picture: its size, and the directions in the room (unit vectors) of the pixels of some rows."""

    width: int
    height: int
    directions: Callable[[range], Floats]


def fisheye() -> Picture:
    """Return one lens, `r = f * theta`: pixels outside the image circle have no direction (NaN)."""
    side = FRAME[1]
    per_radian = LENS_RADIUS / math.radians(LENS_FOV / 2)
    room = turn(LENS_YAW, LENS_TILT)

    def directions(rows: range) -> Floats:
        x, y = centred(rows, side, side)
        radius = np.hypot(x, y)
        theta = np.where(radius <= LENS_RADIUS, radius / np.float32(per_radian), np.float32(np.nan))
        outward = np.sin(theta) / np.maximum(radius, np.float32(1e-6))
        return mirrored(x * outward, y * outward, np.cos(theta)) @ room.T

    return Picture(side, side, directions)


def regular() -> Picture:
    """Return the regular view, `r = f * tan(theta)`."""
    width, height = VIEW
    focal = np.float32(width / 2 / math.tan(math.radians(VIEW_HFOV / 2)))
    room = turn(VIEW_YAW, 0)

    def directions(rows: range) -> Floats:
        x, y = centred(rows, width, height)
        away = np.sqrt(x * x + y * y + focal * focal)
        return mirrored(x / away, y / away, focal / away) @ room.T

    return Picture(width, height, directions)


def mirrored(x: Floats, y: Floats, z: Floats) -> Floats:
    """Return directions as the camera stores them: left and right exchanged."""
    return np.stack((-x, y, z), axis=-1)


class Room:
    """The room's surfaces, and their textures one after another in one array."""

    def __init__(self) -> None:
        self._surfaces = [s for s in (*walls(), *hangings(), *furniture()) if _faces_camera(s)]
        self._shapes = [s.texture(1).shape for s in self._surfaces]
        sizes = [height * width for height, width, _ in self._shapes]
        self._cones = [_cone(_corners(s)) for s in self._surfaces]
        self._starts = [sum(sizes[:index]) for index in range(len(sizes))]

    def texels(self, frame: int) -> Floats:
        """Return every texture's pixels in a frame."""
        painted = [s.texture(frame).reshape(-1, 3) for s in self._surfaces]
        return np.concatenate(painted).astype(np.float32)

    def look(self, directions: Floats) -> Sight:
        """Return what is seen in some directions (unit vectors); best for directions that are near each other."""
        height, width, _ = directions.shape
        directions = directions.reshape(-1, 3)
        sight = Sight.of_nothing(height, width)
        nearest = np.full(len(directions), np.inf, np.float32)
        for index in self._in_reach(directions):
            distance, right, up = _intersect(self._surfaces[index], directions)
            seen = (distance < nearest) & (right >= 0) & (right <= 1) & (up >= 0) & (up <= 1)
            where = np.flatnonzero(seen)
            nearest[where] = distance[where]
            sight.put(where, right[where], up[where], self._shapes[index], self._starts[index])
        return sight

    def _in_reach(self, directions: Floats) -> NDArray[np.intp]:
        """Return the surfaces whose cone meets the cone of some directions."""
        valid = directions[~np.isnan(directions[:, 0])]
        if len(valid) == 0:
            return np.flatnonzero([])
        axis, half = _cone(valid)
        apart = np.arccos(np.clip([axis @ other for other, _ in self._cones], -1, 1))
        return np.flatnonzero(apart <= half + np.array([other for _, other in self._cones]))


def _cone(directions: Floats) -> tuple[Floats, float]:
    """Return the axis and the half angle of a cone that holds some directions, and what is between them."""
    axis = directions.mean(axis=0)
    axis = axis / np.linalg.norm(axis)
    half = math.acos(max(-1.0, float((directions @ axis).min()))) + 1e-3
    return axis, half if half < 1.4 else math.pi  # a wider cone need not be convex


def _corners(one: Surface) -> Floats:
    """Return the directions of a surface's corners."""
    steps = ((0, 0), (1, 0), (0, 1), (1, 1))
    corners = np.array([one.corner + a * one.right + b * one.up for a, b in steps]) - CAMERA
    directions: Floats = corners / np.linalg.norm(corners, axis=1)[:, None]
    return directions


def _faces_camera(one: Surface) -> bool:
    towards = CAMERA - one.corner
    return float(np.dot(np.cross(one.right, one.up), towards)) < 0


def _intersect(one: Surface, directions: Floats) -> tuple[Floats, Floats, Floats]:
    """Return how far away a surface's plane is in each direction (infinite behind), and where on it that is."""
    offset = (one.corner - CAMERA).astype(np.float32)
    normal = np.cross(one.right, one.up)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.float32(np.dot(normal, offset)) / (directions @ normal)
        along = [
            distance * (directions @ (edge / np.dot(edge, edge)))
            - np.float32(np.dot(offset, edge) / np.dot(edge, edge))
            for edge in (one.right, one.up)
        ]
    return np.where(distance > 0, distance, np.float32(np.inf)), along[0], along[1]


@dataclass(frozen=True)
class Sight:
    """What each pixel of some rows sees.

    Attributes:
        height: how many rows.
        width: pixels in a row.
        texel: for each pixel the texel left above, -1 for none.
        below: the step from there to the texel in the row below.
        across: how far the place seen is on the way to the texel on the right.
        down: how far it is on the way to the texel below.
    """

    height: int
    width: int
    texel: NDArray[np.int32]
    below: NDArray[np.int32]
    across: Floats
    down: Floats

    @classmethod
    def of_nothing(cls, height: int, width: int) -> Sight:
        """Return a sight in which no pixel sees anything."""
        count = height * width
        texel, below = np.full(count, -1, np.int32), np.zeros(count, np.int32)
        return cls(height, width, texel, below, *np.zeros((2, count), np.float32))

    def put(self, where: NDArray[np.intp], right: Floats, up: Floats, shape: tuple[int, ...], start: int) -> None:
        """Note that some pixels see a texture; `right` and `up` are shares of its size."""
        height, width, _ = shape
        x = np.clip(right * width - 0.5, 0, width - 1.001)
        y = np.clip((1 - up) * height - 0.5, 0, height - 1.001)
        column, row = x.astype(np.int32), y.astype(np.int32)
        self.texel[where] = start + row * width + column
        self.below[where] = width
        self.across[where] = x - column
        self.down[where] = y - row

    def colours(self, texels: Floats) -> NDArray[np.uint8]:
        """Return the pixels, interpolated between four texels each; black where nothing is seen."""
        seen = self.texel >= 0
        first, below = self.texel[seen], self.below[seen]
        across, down = self.across[seen, None], self.down[seen, None]
        upper = texels[first] * (1 - across) + texels[first + 1] * across
        first += below
        lower = texels[first] * (1 - across) + texels[first + 1] * across
        result = np.zeros((len(seen), 3), np.uint8)
        result[seen] = upper * (1 - down) + lower * down + 0.5
        return result.reshape(self.height, self.width, 3)


class Camera:
    """Takes one kind of picture. The camera stands still, so what each pixel sees is worked out once."""

    def __init__(self, room: Room, picture: Picture) -> None:
        self._sights = [
            [room.look(strip[:, left : left + TILE]) for left in range(0, picture.width, TILE)]
            for strip in map(picture.directions, _strips(picture.height))
        ]

    def take(self, texels: Floats) -> NDArray[np.uint8]:
        """Return a picture."""
        return np.concatenate([np.hstack([sight.colours(texels) for sight in strip]) for strip in self._sights])


def _strips(height: int) -> Iterator[range]:
    for top in range(0, height, TILE):
        yield range(top, min(top + TILE, height))


# ------------------------------------------------------------------------------------------------ what is written


def edges() -> Iterator[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Yield the board's straight edges, outside and inside of its wooden frame: a name and two ends."""
    for name, inset in (("frame", 0.0), ("slate", BOARD_RIM)):
        (x0, y0, z), (x1, y1, _) = BOARD_LOW + inset * FLAT, BOARD_HIGH - inset * FLAT
        yield f"{name}, above", (x0, y1, z), (x1, y1, z)
        yield f"{name}, below", (x0, y0, z), (x1, y0, z)
        yield f"{name}, left", (x0, y0, z), (x0, y1, z)
        yield f"{name}, right", (x1, y0, z), (x1, y1, z)


def project(point: Sequence[float]) -> tuple[float, float]:
    """Return where a point is in the unmirrored view, as shares of its width from the middle: right and down."""
    x, y, z = (np.array(point) - CAMERA) @ turn(VIEW_YAW, 0)
    scale = 2 * math.tan(math.radians(VIEW_HFOV / 2))
    return float(x / z / scale), float(-y / z / scale)


def write_lines(path: str) -> None:
    """Write where the room's straight edges are in the view."""
    lines = [{"name": name, "ends": [project(start), project(end)]} for name, start, end in edges()]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(lines, file, indent=1)


def write(directory: str, count: int) -> None:
    """Render frames and the views that they have to become."""
    frames, truth = os.path.join(directory, "frames"), os.path.join(directory, "truth")
    for below in (frames, truth):
        os.makedirs(below, exist_ok=True)
    write_lines(os.path.join(truth, "lines.json"))
    room = Room()
    lens, view = Camera(room, fisheye()), Camera(room, regular())
    for number in range(1, count + 1):
        texels = room.texels(number)
        whole = Image.new("RGB", FRAME)
        whole.paste(Image.fromarray(lens.take(texels)), (0, 0))
        whole.save(os.path.join(frames, f"room-{number}.jpg"), quality=93, subsampling=0)
        Image.fromarray(view.take(texels)).save(os.path.join(truth, f"room-{number}.png"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Render dual-fisheye frames of a lecture room.")
    parser.add_argument("directory", help="where frames/ and truth/ are made")
    parser.add_argument("--count", type=int, default=4, help="how many (default: %(default)s)")
    options = parser.parse_args()
    write(options.directory, options.count)


if __name__ == "__main__":
    main()
