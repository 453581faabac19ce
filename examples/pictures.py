"""The pictures that the demo leaves behind: a contact sheet, a spectrum, a focus curve, and the way of all frames.

Each says in its title what it shows and on its axes in which unit, so that it can be read without the demo beside it.
"""

# Matplotlib's keyword arguments have no types.
# pyright: reportUnknownMemberType=false

from pathlib import Path

import matplotlib

matplotlib.use("agg")  # files only: no window, no display

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

import job
from analysis import COARSE, FINE, SHRINK, TILE_SHAPE, Floats
from job import NO_FRAME, SHEET_COLUMNS, SHEET_TILES, Outcome, Stage
from microscope import BLUR_PIXELS, FRAMES_PER_SWEEP

DPI = 100
# Of the contact sheet, in pixels. Its tiles are neither enlarged nor reduced.
ABOVE, BELOW, BESIDE = 70, 60, 30
SCALE_BAR_PIXELS = 400  # of the camera
WHITE_PERCENTILE = 99.5
BLUE, GREEN, ORANGE, GREY = "#1f5a94", "#3a8a3a", "#c65a1e", "#606060"
STAGES = {
    Stage.EXPOSED: ("exposed by the camera", ORANGE),
    Stage.TAKEN: ("taken by a worker", GREEN),
    Stage.SHOWN: ("on the contact sheet", BLUE),
}


def save_contact_sheet(run: Outcome, path: Path) -> None:
    """Write the sheet, with the number and the focus of each frame, and a scale."""
    height, width = run.sheet.shape
    figure = plt.figure(figsize=((width + 2 * BESIDE) / DPI, (height + ABOVE + BELOW) / DPI), dpi=DPI)
    total = height + ABOVE + BELOW
    axes = figure.add_axes((BESIDE / (width + 2 * BESIDE), BELOW / total, width / (width + 2 * BESIDE), height / total))
    white = max(float(np.percentile(run.sheet, WHITE_PERCENTILE)), 1.0)
    axes.imshow(run.sheet, cmap="gray", vmin=0, vmax=white, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    caption_tiles(axes, run)
    at = BESIDE / (width + 2 * BESIDE)
    title = (
        f"The newest {SHEET_TILES} of {run.plan.frames} frames, sharpened; with the number and focus measure of each"
    )
    figure.text(at, 1 - ABOVE / 2 / total, title, fontsize=20, va="center")
    scale = f"Each side is 1/{SHRINK} of the camera's. Black is 0 photons a pixel, white {white:.0f}."
    figure.text(at, BELOW / 2 / total, scale, fontsize=14, va="center")
    draw_scale_bar(figure, height, width)
    close(figure, path)


def caption_tiles(axes: Axes, run: Outcome) -> None:
    """Write number and focus of its frame into the lower left corner of each tile."""
    box = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2}
    for place, frame in enumerate(job.newest(run.moments)):
        if frame == NO_FRAME:
            continue
        row, column = divmod(place, SHEET_COLUMNS)
        x, y = column * TILE_SHAPE[1] + 5, (row + 1) * TILE_SHAPE[0] - 6
        axes.text(x, y, f"{frame}  focus {run.focus[frame]:.3f}", color="white", fontsize=8, va="bottom", bbox=box)


def draw_scale_bar(figure: Figure, height: int, width: int) -> None:
    """Draw a bar as long as some pixels of the camera, below the sheet on the right."""
    axes = figure.add_axes((0, 0, 1, BELOW / (height + ABOVE + BELOW)))
    axes.set(xlim=(0, width + 2 * BESIDE), ylim=(0, BELOW))
    axes.set_axis_off()
    right = BESIDE + width
    axes.plot([right - SCALE_BAR_PIXELS / SHRINK, right], [BELOW / 2] * 2, color="black", linewidth=4)
    label = f"{SCALE_BAR_PIXELS} pixels of the camera"
    axes.text(right - SCALE_BAR_PIXELS / SHRINK - 10, BELOW / 2, label, fontsize=14, ha="right", va="center")


def save_spectrum(power: Floats, frames: int, path: Path) -> None:
    """Write the logarithm of a half spectrum of shape (rows, columns // 2 + 1) as a whole one, zero in the middle."""
    whole = mirrored(np.log10(power + 1))
    figure, axes = plt.subplots(figsize=(9.6, 7.6), dpi=DPI, layout="constrained")
    low, high = np.percentile(whole, [1, 99.99])
    image = axes.imshow(whole, cmap="inferno", vmin=low, vmax=high, extent=(-0.5, 0.5, 0.5, -0.5), aspect="equal")
    for cycles in (COARSE, FINE):
        axes.add_patch(Circle((0, 0), cycles, fill=False, color="white", linestyle="--", linewidth=1))
        axes.annotate(f"1/{1 / cycles:.0f}", (0, -cycles), color="white", ha="center", va="bottom")
    axes.set(xlabel="cycles a pixel, along rows", ylabel="cycles a pixel, along columns")
    axes.set_title(f"Mean power spectrum of {frames} frames\nThe focus measure compares what is inside the two circles")
    figure.colorbar(image, label="log10 of (power + 1), photons²")
    close(figure, path)


def mirrored(half: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the whole spectrum, zero in the middle, of the half that a transform of real numbers gives."""
    # The missing half mirrors this one through the origin. Row 0 is its own mirror, so the others are turned round.
    rest = np.roll(half[::-1, ::-1], 1, axis=0)[:, 1:-1]
    return np.fft.fftshift(np.concatenate([half, rest], axis=1))


def save_focus_curve(focus: npt.NDArray[np.float64], path: Path) -> None:
    """Write a curve of the focus measure on a logarithmic scale, one point a frame, first to last."""
    figure, axes = plt.subplots(figsize=(12, 4.2), dpi=DPI, layout="constrained")
    axes.semilogy(np.maximum(focus, 1e-5), color=BLUE, marker=".", markersize=4, linewidth=1)
    axes.set(xlabel="frame", ylabel="focus measure, a share of 1")
    sweep = f"the focus goes through {len(BLUR_PIXELS)} planes and back in {FRAMES_PER_SWEEP} frames"
    axes.set_title(f"How sharp each of {len(focus)} frames is: {sweep}, while the slide moves on")
    axes.yaxis.set_major_formatter(LogFormatterSciNotation())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_xlim(0, max(len(focus) - 1, 1))
    close(figure, path)


def save_stages(runs: dict[str, Outcome], path: Path) -> None:
    """Write how many frames were through each stage at each time, one panel a run, all on the same scales."""
    figure, panels = plt.subplots(
        1, len(runs), figsize=(12, 4.8), dpi=DPI, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    longest = max(float(in_seconds(run, Stage.SHOWN).max()) for run in runs.values())
    for axes, (name, run) in zip(panels[0], runs.items(), strict=True):
        for stage, (label, ink) in STAGES.items():
            passed = np.sort(in_seconds(run, stage))
            axes.step(passed, np.arange(1, len(passed) + 1), where="post", color=ink, label=label, linewidth=1.5)
        axes.set_title(f"{name}: {run.plan.frames} frames in {in_seconds(run, Stage.SHOWN).max():.2f} s")
        axes.set(xlabel="seconds since the start", xlim=(0, longest), ylim=(0, run.plan.frames))
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("frames that are through")
    panels[0][0].legend(loc="lower right")
    figure.suptitle("The same job flat out, both ways: the steeper the faster, the closer the lines the less lag")
    close(figure, path)


def in_seconds(run: Outcome, stage: Stage) -> npt.NDArray[np.float64]:
    """Return when frames passed a stage, in seconds from the common start."""
    passed = run.moments[stage]
    return (passed[passed > 0] - run.began) / 1e9


def close(figure: Figure, path: Path) -> None:
    """Write a figure, and let its memory go."""
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
