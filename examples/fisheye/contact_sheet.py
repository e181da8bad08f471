"""Lay before and after side by side on one PNG: each frame, its equirectangular projection, the regular picture."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW = 270
"""Pixels: the height of every picture."""

GAP = 24
HEADING = 92
CAPTION = 34
BACKGROUND, INK, FAINT = "#f4f3ef", "#22252a", "#6d7178"

COLUMNS = (
    ("What the camera stored", "two lenses, the right one covered", 540),
    ("Flattened", "equirectangular, by Hugin in its own container", 540),
    ("Regular picture", "perspective, 500 pixels wide, mirrored back", 360),
)
"""Title, explanation, width in pixels."""


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font: nothing has to be installed."""
    return ImageFont.load_default(size)


def rows(work: str, frames: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield each frame's name, and the paths of its pictures that are there."""
    for final in sorted(glob.glob(os.path.join(work, "final", "*.png"))):
        name = os.path.splitext(os.path.basename(final))[0]
        stored = sorted(glob.glob(os.path.join(glob.escape(frames), glob.escape(name) + ".*")))
        if stored:
            yield name, (stored[0], os.path.join(work, "flat", f"{name}.tif"), final)


def thumbnail(path: str, width: int) -> Image.Image:
    """Return a picture, fitted into its column."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * width, 2 * ROW))  # a large JPEG need not be decoded in full
        return ImageOps.contain(image.convert("RGB"), (width, ROW), Image.Resampling.LANCZOS)


def lefts() -> list[int]:
    """Return where each column begins, and where the last one ends."""
    result = [GAP]
    for _, _, width in COLUMNS:
        result.append(result[-1] + width + GAP)
    return result


def sheet(pictures: list[tuple[str, tuple[str, str, str]]]) -> Image.Image:
    """Return the whole sheet."""
    *columns, width = lefts()
    result = Image.new("RGB", (width, HEADING + len(pictures) * (ROW + CAPTION) + GAP // 2), BACKGROUND)
    draw = ImageDraw.Draw(result)
    for left, (title, explanation, _) in zip(columns, COLUMNS, strict=True):
        draw.text((left, 24), title, INK, font(24))
        draw.text((left, 57), explanation, FAINT, font(15))
    for row, (name, paths) in enumerate(pictures):
        top = HEADING + row * (ROW + CAPTION)
        for left, path, (_, _, most) in zip(columns, paths, COLUMNS, strict=True):
            result.paste(thumbnail(path, most), (left, top))
        draw.text((columns[0], top + ROW + 6), name, FAINT, font(14))
    return result


def main() -> int:
    """Write the sheet; return 1 if there is no picture for it."""
    parser = argparse.ArgumentParser(description="Make a before/after contact sheet.")
    parser.add_argument("work", help="Snakemake's directory")
    parser.add_argument("frames", help="the directory of the frames")
    parser.add_argument("output", help="the PNG, or the smaller JPEG, to write")
    parser.add_argument("--count", type=int, help="how many frames to show; all by default")
    options = parser.parse_args()
    pictures = list(rows(options.work, options.frames))[: options.count]
    if not pictures:
        print(f"contact sheet: no finished picture in {options.work}", file=sys.stderr)
        return 1
    sheet(pictures).save(options.output)
    print(f"before and after: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
