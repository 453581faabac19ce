"""The pictures that the demo leaves behind: a contact sheet, a spectrum and a focus curve."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from analysis import Floats

CURVE_SIZE = (1200, 360)
MARGIN = 40
DECADES = 4
INK, PAPER, GRID = (20, 60, 120), (255, 255, 255), (220, 220, 220)


def save_contact_sheet(sheet: npt.NDArray[np.uint16], path: Path) -> None:
    """Write the sheet as an 8-bit picture, scaled to its own brightest pixels."""
    save_grey(sheet.astype(np.float32), path, white=float(np.percentile(sheet, 99.5)))


def save_spectrum(power: Floats, path: Path) -> None:
    """Write the logarithm of a half spectrum of shape (rows, columns // 2 + 1) as a whole one, zero in the middle."""
    half = np.log10(power + 1)
    # The missing half mirrors this one through the origin. Row 0 is its own mirror, so the others are turned round.
    mirrored = np.roll(half[::-1, ::-1], 1, axis=0)[:, 1:-1]
    whole = np.fft.fftshift(np.concatenate([half, mirrored], axis=1))
    floor = float(np.percentile(whole, 1))
    save_grey(whole - floor, path, white=float(np.percentile(whole, 99.99)) - floor)


def save_grey(values: npt.NDArray[np.float32 | np.float64], path: Path, white: float) -> None:
    """Write values from 0 (black) to ``white`` as an 8-bit picture."""
    levels = np.clip(values * (255 / max(white, 1e-9)), 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(path)


def save_focus_curve(focus: npt.NDArray[np.float64], path: Path) -> None:
    """Write a curve of the focus measure on a logarithmic scale, one point a frame, first to last."""
    image = Image.new("RGB", CURVE_SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    width, height = CURVE_SIZE[0] - 2 * MARGIN, CURVE_SIZE[1] - 2 * MARGIN
    for decade in range(DECADES + 1):
        y = MARGIN + height * decade / DECADES
        draw.line([(MARGIN, y), (MARGIN + width, y)], fill=GRID)
        draw.text((MARGIN / 4, y - 6), f"1e-{decade}", fill=INK)
    across = np.linspace(MARGIN, MARGIN + width, len(focus))
    down = -np.log10(np.clip(focus, 10.0**-DECADES, 1))
    draw.line(points(across, MARGIN + height * down / DECADES), fill=INK, width=2)
    draw.text((MARGIN, MARGIN / 4), f"focus measure of {len(focus)} frames", fill=INK)
    image.save(path)


def points(across: Iterable[float], down: Iterable[float]) -> list[tuple[float, float]]:
    """Return coordinates as Pillow wants them."""
    return [(float(x), float(y)) for x, y in zip(across, down, strict=True)]
