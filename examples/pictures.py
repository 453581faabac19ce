"""The pictures that the demo leaves behind: a contact sheet, a spectrum, a focus curve, and the way of all frames."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from analysis import Floats
from job import Outcome, Stage

CURVE_SIZE = (1200, 360)
MARGIN = 40
DECADES = 5
STAGES_SIZE = (1200, 480)
GRID_STEPS = 4
STAGE_INKS = {
    Stage.EXPOSED: ("exposed", (200, 90, 30)),
    Stage.TAKEN: ("taken by a worker", (60, 140, 60)),
    Stage.SHOWN: ("on the sheet", (20, 60, 120)),
}
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


def save_stages(runs: dict[str, Outcome], path: Path) -> None:
    """Write how many frames were through each stage at each time, one panel a run, all on the same scales."""
    image = Image.new("RGB", STAGES_SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    seconds = max(float(in_seconds(one, Stage.SHOWN).max()) for one in runs.values())
    width = STAGES_SIZE[0] / len(runs)
    for number, (name, one) in enumerate(runs.items()):
        panel = Panel(draw, number * width + MARGIN, width - 2 * MARGIN, STAGES_SIZE[1] - 2 * MARGIN)
        last = float(in_seconds(one, Stage.SHOWN).max())
        draw.text((panel.left, MARGIN / 4), f"{name}: {one.plan.frames} frames in {last:.2f} s", fill=INK)
        panel.grid(one.plan.frames, seconds)
        panel.curves(one, seconds)
    image.save(path)


class Panel(NamedTuple):
    """A place for curves on a picture, in pixels: frames upwards, time to the right."""

    draw: ImageDraw.ImageDraw
    left: float
    width: float
    height: float

    def grid(self, frames: int, seconds: float) -> None:
        """Draw four lines each way, with what they stand for."""
        bottom, right = MARGIN + self.height, self.left + self.width
        for step in range(GRID_STEPS + 1):
            part = step / GRID_STEPS
            x, y = self.left + self.width * part, bottom - self.height * part
            self.draw.line([(self.left, y), (right, y)], fill=GRID)
            self.draw.line([(x, MARGIN), (x, bottom)], fill=GRID)
            self.draw.text((self.left - 28, y - 6), f"{frames * part:g}", fill=INK)
            self.draw.text((x - 12, bottom + 8), f"{seconds * part:.2f} s", fill=INK)

    def curves(self, run: Outcome, seconds: float) -> None:
        """Draw for each stage how many frames were through it."""
        for line, (stage, (name, ink)) in enumerate(STAGE_INKS.items()):
            passed = np.sort(in_seconds(run, stage))
            across = self.left + self.width * passed / seconds
            down = MARGIN + self.height * (1 - np.arange(1, len(passed) + 1) / run.plan.frames)
            self.draw.line(points(across, down), fill=ink, width=2)
            self.draw.text((self.left + self.width - 120, MARGIN + self.height - 65 + 18 * line), name, fill=ink)


def in_seconds(run: Outcome, stage: Stage) -> npt.NDArray[np.float64]:
    """Return when frames passed a stage, in seconds from the common start."""
    passed = run.moments[stage]
    return (passed[passed > 0] - run.began) / 1e9


def points(across: Iterable[float], down: Iterable[float]) -> list[tuple[float, float]]:
    """Return coordinates as Pillow wants them."""
    return [(float(x), float(y)) for x, y in zip(across, down, strict=True)]
