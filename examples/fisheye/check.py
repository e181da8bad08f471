"""Hold the pipeline's pictures against the geometry of the room that frames.py rendered.

Two figures for each picture. *Straightness*: every known straight edge is located in the picture, to a fraction of a
pixel, at many points along it; a line is fitted through those points, and their RMS distance from it is what a wrong
lens or a missing perspective correction makes large. *Agreement*: the PSNR against the same room seen directly through
a regular lens, which also notices a wrong angle or direction.

Ends with 1 if a bound is not met. Knows nothing of Hugin, and of frames.py only the files that it writes.
"""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

MOST_BEND = 0.25
"""RMS pixels. Measured 0.09; without the perspective correction 1.5, and other edges are out of reach."""

LEAST_PSNR = 30.0
"""Decibels. Measured 40; a lens or a view whose angle is wrong by one hundredth stays below 21."""

LEAST_FOUND = 0.9
"""Share of the points that must be found: where a picture is elsewhere, there is no edge in reach."""

LEAST_STEP = 6.0
"""Grey levels that an edge has to rise or fall for a point to count as found."""

REACH = 3.0
"""Pixels on either side of where an edge has to be that are searched; the next edge is 7 away."""

MARGIN = 6.0
"""Pixels that are kept away from an edge's ends, where another edge meets it, and from the picture's border."""


@dataclass(frozen=True)
class Figures:
    """What was measured in one picture.

    Attributes:
        name: the picture's.
        bend: the worst RMS distance of an edge's points from their own line, in pixels.
        where: the edge that has it.
        found: the smallest share of an edge's points that was found.
        psnr: the agreement with the direct view, in decibels.
    """

    name: str
    bend: float
    where: str
    found: float
    psnr: float

    def complaints(self) -> list[str]:
        """Return each bound that is not met, as a sentence."""
        result = []
        if self.found < LEAST_FOUND:
            result.append(f"{self.name}: only {self.found:.0%} of an edge is near where it has to be")
        if self.bend > MOST_BEND:
            result.append(f"{self.name}: {self.where}: bent by {self.bend:.2f} px RMS, {MOST_BEND} allowed")
        if self.psnr < LEAST_PSNR:
            result.append(f"{self.name}: {self.psnr:.1f} dB against the direct view, {LEAST_PSNR:g} required")
        return result


def read_grey(path: str) -> Floats:
    """Return a picture's grey levels."""
    with Image.open(path) as image:
        return np.array(image.convert("L"), np.float64)


def read_truth(path: str, size: tuple[int, int]) -> Floats:
    """Return the direct view, resized and mirrored as the pipeline's last stages do."""
    with Image.open(path) as image:
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT), np.float64)


def psnr(one: Floats, other: Floats) -> float:
    """Return how well two pictures agree, in decibels."""
    error = float(np.mean((one - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def sample(grey: Floats, x: Floats, y: Floats) -> Floats:
    """Return grey levels between pixels; outside the picture, the border's."""
    height, width = grey.shape
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    across, down = x - column, y - row
    upper = grey[row, column] * (1 - across) + grey[row, column + 1] * across
    lower = grey[row + 1, column] * (1 - across) + grey[row + 1, column + 1] * across
    between: Floats = upper * (1 - down) + lower * down
    return between


def points_along(start: Floats, end: Floats, shape: tuple[int, ...]) -> Floats:
    """Return a point for each pixel along an edge, where both the edge and its surroundings are in the picture."""
    length = float(np.hypot(*(end - start)))
    along = np.arange(MARGIN, length - MARGIN)[:, None]
    points = start + (end - start) / length * along
    far_corner = np.array([shape[1], shape[0]]) - 1 - MARGIN
    return points[np.all((points >= MARGIN) & (points <= far_corner), axis=1)]


def resolve(grey: Floats, points: Floats, normal: Floats) -> Floats:
    """Return how far from each point, along the normal, the strongest edge is; NaN where there is none.

    The place is where the gradient's centre of mass lies around its maximum.
    """
    step = 0.25
    offsets = np.arange(-REACH, REACH + step / 2, step)
    places = points[:, None, :] + offsets[None, :, None] * normal
    gradient = np.abs(np.gradient(sample(grey, places[..., 0], places[..., 1]), axis=1))
    peak = gradient.argmax(axis=1)
    near = np.abs(np.arange(len(offsets))[None, :] - peak[:, None]) <= 1.5 / step
    weight = np.where(near, gradient, 0)
    total = weight.sum(axis=1)
    at_border = (peak == 0) | (peak == len(offsets) - 1)
    place = (weight * offsets).sum(axis=1) / np.maximum(total, 1e-9)
    return np.where((total < LEAST_STEP) | at_border, np.nan, place)


def straightness(grey: Floats, ends: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return an edge's RMS distance from its own line (pixels; infinite if unknown), and the share that was found.

    Args:
        grey: the picture.
        ends: where the edge has to be, as shares of the picture's width from its middle.
    """
    height, width = grey.shape
    start, end = np.array(ends) * width + np.array([width - 1, height - 1]) / 2
    points = points_along(start, end, grey.shape)
    along = (end - start) / np.hypot(*(end - start))
    offset = resolve(grey, points, np.array([-along[1], along[0]]))
    found = ~np.isnan(offset)
    if found.sum() < 10:
        return math.inf, 0.0
    position = points[found] @ along
    residual = offset[found] - np.polyval(np.polyfit(position, offset[found], 1), position)
    return float(np.sqrt(np.mean(residual**2))), float(found.mean())


def measure(picture: str, truth: str) -> Figures:
    """Measure one picture.

    Args:
        picture: its path.
        truth: the directory of the direct views and of lines.json.
    """
    name = os.path.splitext(os.path.basename(picture))[0]
    with open(os.path.join(truth, "lines.json"), encoding="utf-8") as file:
        lines = json.load(file)
    grey = read_grey(picture)
    with Image.open(picture) as image:
        colours = np.asarray(image.convert("RGB"), np.float64)
    direct = read_truth(os.path.join(truth, f"{name}.png"), (grey.shape[1], grey.shape[0]))
    edges = [(*straightness(grey, line["ends"]), line["name"]) for line in lines]
    bend, _, where = max(edges)
    return Figures(name, bend, where, min(found for _, found, _ in edges), psnr(colours, direct))


def main() -> int:
    """Measure every picture of a directory; return 1 if a bound is not met."""
    parser = argparse.ArgumentParser(description="Check the final pictures against the rendered room.")
    parser.add_argument("final", help="the directory of the pipeline's pictures")
    parser.add_argument("truth", help="the directory that frames.py wrote")
    options = parser.parse_args()
    pictures = sorted(glob.glob(os.path.join(options.final, "*.png")))
    if not pictures:
        print(f"check: no pictures in {options.final}", file=sys.stderr)
        return 1
    figures = [measure(picture, options.truth) for picture in pictures]
    print(f"{'picture':12} {'bend, px RMS':>12} {'worst edge':16} {'found':>6} {'PSNR, dB':>9}")
    for one in figures:
        print(f"{one.name:12} {one.bend:12.3f} {one.where:16} {one.found:6.0%} {one.psnr:9.1f}")
    print(f"{'bound':12} {MOST_BEND:12.3f} {'':16} {LEAST_FOUND:6.0%} {LEAST_PSNR:9.1f}")
    complaints = [violation for one in figures for violation in one.complaints()]
    for violation in complaints:
        print(f"check: {violation}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
