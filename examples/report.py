"""From the moments of runs to figures: each stage's rate, lag and losses, both ways side by side."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

from job import Moments, Outcome, Stage
from microscope import FRAME_BYTES

STAGES = {
    Stage.EXPOSED: "camera",
    Stage.TAKEN: "hand-over",
    Stage.WORKED: "workers",
    Stage.STORED: "tiles kept",
    Stage.SHOWN: "sheet",
}
# A tile is a rounded count of photons, and the transforms of both ways have errors of single precision.
TILE_TOLERANCE = 1
FOCUS_TOLERANCE = 1e-4
POWER_TOLERANCE = 0.01

Floats = npt.NDArray[np.float64]


class Pair(NamedTuple):
    """The same runs done both ways."""

    ours: list[Outcome]  # by reference
    theirs: list[Outcome]  # by value


class Agreement(NamedTuple):
    """How far the results of both ways are apart."""

    tiles: int  # that were compared
    photons: int  # largest difference of two pixels of tiles, in photons
    focus: float  # largest difference of two focus measures, which are shares of 1
    power: float  # largest difference of the mean spectra, by the decimal logarithms that the picture shows

    def holds(self) -> bool:
        """Tell whether they are equal within single precision."""
        is_near = self.photons <= TILE_TOLERANCE and self.focus <= FOCUS_TOLERANCE and self.power <= POWER_TOLERANCE
        return self.tiles > 0 and is_near


# Figures of one run


def rate(outcome: Outcome, stage: Stage) -> float:
    """Return the frames per second that passed a stage, from the common start to the last of them."""
    passed = outcome.moments[stage]
    return np.count_nonzero(passed) / ((int(passed.max()) - outcome.began) / 1e9)


def gigabytes(outcome: Outcome, stage: Stage) -> float:
    """Return the gigabytes per second that passed a stage."""
    return rate(outcome, stage) * FRAME_BYTES / 1e9


def lags_ms(outcome: Outcome, stage: Stage) -> Floats:
    """Return the milliseconds from exposure to a stage, for each frame that passed it."""
    exposed, passed = both(outcome.moments, stage)
    return (passed - exposed) / 1e6


def usual_lag_ms(outcome: Outcome, stage: Stage) -> float:
    """Return the median lag in milliseconds."""
    return float(np.median(lags_ms(outcome, stage)))


def long_lag_ms(outcome: Outcome, stage: Stage) -> float:
    """Return the lag that 99 of 100 frames keep below, in milliseconds."""
    return float(np.percentile(lags_ms(outcome, stage), 99))


def lags_in_frames(outcome: Outcome, stage: Stage) -> npt.NDArray[np.intp]:
    """Return for each frame that passed a stage how many later ones were exposed by then."""
    exposed, passed = both(outcome.moments, stage)
    all_exposed = np.sort(outcome.moments[Stage.EXPOSED])
    return np.searchsorted(all_exposed, passed) - np.searchsorted(all_exposed, exposed, side="right")


def usual_lag_in_frames(outcome: Outcome, stage: Stage) -> float:
    """Return the median lag in frames."""
    return float(np.median(lags_in_frames(outcome, stage)))


def both(moments: Moments, stage: Stage) -> tuple[Moments, Moments]:
    """Return when frames were exposed and when they passed a stage, of those that did."""
    has_passed = moments[stage] > 0
    return moments[Stage.EXPOSED, has_passed], moments[stage, has_passed]


def lost(outcome: Outcome, stage: Stage) -> int:
    """Return how many frames did not pass a stage, though they passed the one before."""
    before = Stage(max(stage - 1, 0))
    return int(np.count_nonzero(outcome.moments[before])) - int(np.count_nonzero(outcome.moments[stage]))


def work_ms(outcome: Outcome, stage: Stage) -> float:
    """Return the median of the milliseconds from the stage before to this one."""
    has_passed = outcome.moments[stage] > 0
    return float(np.median(outcome.moments[stage, has_passed] - outcome.moments[stage - 1, has_passed])) / 1e6


def refresh_ms(outcome: Outcome, _stage: Stage) -> float:
    """Return the median of the milliseconds that it took to bring the sheet up to date."""
    return 1e3 * float(np.median([refresh.seconds for refresh in outcome.refreshes]))


def missing(outcome: Outcome) -> int:
    """Return of how many frames no tile was kept."""
    return outcome.plan.frames - int(np.count_nonzero(outcome.moments[Stage.STORED]))


def uncounted(outcome: Outcome) -> int:
    """Return how many frames vanished without being counted by the hand-over."""
    return max(0, missing(outcome) - outcome.dropped)


def agreement(ours: Outcome, theirs: Outcome) -> Agreement:
    """Compare what both ways made of the same frames."""
    common = sorted(ours.tiles.keys() & theirs.tiles.keys())
    differences = [np.abs(ours.tiles[index].astype(int) - theirs.tiles[index]).max() for index in common]
    focus = np.abs(ours.focus[common] - theirs.focus[common]).max(initial=0)
    power = np.abs(np.log10(ours.power + 1) - np.log10(theirs.power + 1)).max()
    return Agreement(len(common), int(max(differences, default=0)), float(focus), float(power))


def is_same(one: Outcome, other: Outcome) -> bool:
    """Tell whether two runs of one way came to the same, to the last bit: each frame is in it once."""
    # Of many frames, the oldest tiles are gone, not always the same.
    common = one.tiles.keys() & other.tiles.keys()
    are_tiles = bool(common) and all(np.array_equal(one.tiles[index], other.tiles[index]) for index in common)
    return are_tiles and np.array_equal(one.focus, other.focus) and np.array_equal(one.power, other.power)


# What is printed


class Row(NamedTuple):
    """A line of the table; `ahead` is 1 where more is better, -1 where less is, and 0 where there is no ratio."""

    label: str
    figure: Callable[[Outcome, Stage], float]
    form: str
    ahead: int
    stages: frozenset[Stage]

    def cells(self, stage: Stage, pair: Pair) -> tuple[str, str, str]:
        """Return medians over the runs of each way, and by how much we are ahead."""
        ours, theirs = (float(np.median([self.figure(one, stage) for one in way])) for way in pair)
        # Where frames are lost, the lag of the others tells how much room there is, and not how fast a way is.
        is_fair = self.ahead > 0 or self.figure not in LAGS or not any(one.dropped for way in pair for one in way)
        ratio = f"{(ours / theirs) ** self.ahead:.1f}" if self.ahead and is_fair and ours and theirs else ""
        return self.form.format(ours), self.form.format(theirs), ratio


LAGS = (usual_lag_ms, long_lag_ms)
CAMERA, SHEET, ALL = frozenset({Stage.EXPOSED}), frozenset({Stage.SHOWN}), frozenset(Stage)
ROWS = (
    Row("frames/s", rate, "{:.0f}", 1, ALL),
    Row("GB/s", gigabytes, "{:.2f}", 0, CAMERA),
    Row("work on one, ms", work_ms, "{:.1f}", -1, frozenset({Stage.WORKED})),
    Row("a refresh, ms", refresh_ms, "{:.2f}", -1, SHEET),
    Row("lag, frames", usual_lag_in_frames, "{:.0f}", 0, ALL - CAMERA),
    Row("lag, ms", usual_lag_ms, "{:.1f}", -1, ALL - CAMERA),
    Row("99 % below, ms", long_lag_ms, "{:.1f}", -1, SHEET | {Stage.TAKEN}),
    Row("lost", lost, "{:.0f}", 0, ALL - CAMERA),
)


def table(flat: Pair, live: Pair) -> Table:
    """Return the figures of all runs."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    result.add_column("")
    for heading in ("flat out", "live"):
        for name in (f"{heading}\nndshare", "\nqueue", "\nratio"):
            result.add_column(name, justify="right")
    for stage in Stage:
        result.add_row(f"[bold]{STAGES[stage]}[/bold]")
        for row in ROWS:
            if stage in row.stages:
                result.add_row(f"  {row.label}", *row.cells(stage, flat), *row.cells(stage, live))
    return result


def remarks(flat: Pair, live: Pair, left_bytes: int) -> Iterator[str]:
    """Return what the table has no room for."""
    runs, frames = len(flat.ours), flat.ours[0].plan.frames
    yield (
        f"Runs each way: {runs}, in turns, of {frames} frames of {FRAME_BYTES / 1e6:.2f} MB; medians. Flat out the "
        f"camera waits for the workers; live it exposes {live.ours[0].plan.rate:.0f} frames/s and waits for nobody."
    )
    yield "Lag: from exposure until a frame is through the stage. Ratio: how many times ndshare is ahead."
    worst = [agreement(*two) for two in zip(*flat, strict=True)]
    yield (
        f"The same from both ways: {sum(one.tiles for one in worst)} tiles compared, at most "
        f"{max(one.photons for one in worst)} photon apart; focus at most {max(one.focus for one in worst):.1e}, the "
        f"logarithm of the mean spectrum {max(one.power for one in worst):.1e}."
    )
    yield f"Bytes of shared memory left behind: {left_bytes}"


def remark_on_deaths(killed: Outcome, calm: Outcome) -> str:
    """Return what came of the run whose workers were killed, beside one without deaths."""
    through, frames = int(np.count_nonzero(killed.moments[Stage.STORED])), killed.plan.frames
    same = "the same to the last bit" if is_same(killed, calm) else "not the same"
    return (
        f"In one more run of ndshare {killed.restarted} workers were killed amid their work: {through} of {frames} "
        f"frames came through, at {rate(killed, Stage.SHOWN):.0f} frames/s; tiles, focus and spectrum are {same}."
    )
