"""A camera, workers that transform its frames, a cache of tiles and a contact sheet, in four processes: the demo.

    python examples/demo.py --frames 300 --out demo-out

A simulated microscope makes real 16-bit pictures of 2 megapixels. The whole job is done twice over: with ndshare's
parts (`by_reference`), and with multiprocessing's queues, NumPy and SciPy (`by_value`). Runs of both take turns: first
as fast as they can, then with a camera that waits for nobody. Every figure is measured, and the results are compared.
At last ndshare does it once more while its workers are killed, and must come to the same.
"""

import argparse
import gc
import multiprocessing as mp
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

import by_reference
import by_value
import job
import microscope
import ndshare as nds
import report
from job import Outcome, Plan, Stage, Tick
from microscope import Specimen
from report import Pair

KILLS = 3
LIVE_SHARE = 0.75  # of what ndshare managed flat out: a camera that leaves some air
LOST = TextColumn("{task.fields[lost]}")
PICTURES = ("contact-sheet.png", "spectrum.png", "focus-curve.png", "stages.png")

Run = Callable[[Plan, Specimen, Tick], Outcome]


class Runs(NamedTuple):
    """All that was run."""

    flat: Pair
    live: Pair
    killed: Outcome  # flat out, by reference, while workers were killed


class Stand(NamedTuple):
    """What all runs need."""

    specimen: Specimen
    frames: int
    rounds: int
    progress: Progress


def run_all(stand: Stand, rate: float | None) -> Pair:
    """Do the job both ways, taking turns, for each round."""
    plan, pair = Plan(stand.frames, rate), Pair([], [])
    what = "flat out" if rate is None else "live"
    for number in range(stand.rounds):
        for run, way, name in ((by_reference.run, pair.ours, "ndshare"), (by_value.run, pair.theirs, "queue")):
            way.append(run_one(stand, run, plan, f"{what} {number + 1}, {name}"))
    return pair


def run_one(stand: Stand, run: Run, plan: Plan, title: str) -> Outcome:
    """Do the job once, with a bar that shows how far it is."""
    task = stand.progress.add_task(title, total=plan.frames, lost="")
    outcome = run(plan, stand.specimen, ticker(stand.progress, task))
    settle(stand.progress, task, outcome)
    return outcome


def settle(progress: Progress, task: TaskID, outcome: Outcome) -> None:
    """Fill a bar up and say beside it how many frames are missing: one that stops short looks as if it hung."""
    lost = report.missing(outcome)
    told = f"[yellow]{lost} lost: the camera waits for nobody" if lost else ""
    progress.update(task, completed=outcome.plan.frames, lost=told)


def ticker(progress: Progress, task: TaskID) -> Tick:
    """Return what tells a progress bar how many frames are done."""
    return lambda done: progress.update(task, completed=done)


def judge(runs: Runs, left_bytes: int) -> list[str]:
    """Return what went wrong; nothing may."""
    (flat, live, killed), complaints = runs, list[str]()
    for one in (*flat.ours, *flat.theirs, *live.ours, *live.theirs, killed):
        if strays := report.uncounted(one):
            complaints.append(f"{strays} frames were lost without being counted")
    if lost := sum(one.dropped for one in (*flat.ours, *flat.theirs, killed)):
        complaints.append(f"{lost} frames were lost although the camera waited")
    if not all(report.agreement(*two).holds() for two in zip(*flat, strict=True)):
        complaints.append("the two ways came to different results")
    if not report.is_same(killed, flat.ours[-1]):
        complaints.append("the run whose workers were killed came to different results")
    if left_bytes:
        complaints.append(f"{left_bytes} bytes of shared memory were left behind")
    if children := mp.active_children():
        complaints.append(f"{len(children)} processes were left behind")
    return complaints


def write_pictures(flat: Pair, out: Path) -> None:
    """Write what the last run by reference came to, and how the last two runs went."""
    # Here, because each child imports this file, too, and has no use for Matplotlib.
    import pictures

    out.mkdir(parents=True, exist_ok=True)
    sheet, spectrum, curve, stages = (out / name for name in PICTURES)
    last = flat.ours[-1]
    pictures.save_contact_sheet(last, sheet)
    pictures.save_spectrum(last.power, last.plan.frames, spectrum)
    pictures.save_focus_curve(last.focus, curve)
    pictures.save_stages({"ndshare": last, "queue": flat.theirs[-1]}, stages)


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="A camera, FFT workers and a contact sheet in separate processes.")
    parser.add_argument("--frames", type=int, default=200, help="frames in each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind (default: %(default)s)")
    parser.add_argument("--rate", type=float, help="frames/s of the live runs (default: 75 %% of ndshare's flat out)")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for pictures (default: %(default)s)")
    options = parser.parse_args()
    for name in ("frames", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.rate is not None and not options.rate > 0:
        parser.error(f"--rate must be above 0, got {options.rate}")
    return options


def run_both(options: argparse.Namespace, console: Console) -> Runs:
    """Run flat out, then live at a rate that the first runs have shown to be sensible, then with workers killed."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), LOST)
    with Progress(*columns, console=console) as progress:
        preparing = progress.add_task("specimen", total=1, lost="")
        stand = Stand(microscope.prepare(job.SEED), options.frames, options.rounds, progress)
        progress.update(preparing, completed=1)
        flat = run_all(stand, None)
        rate = options.rate or LIVE_SHARE * float(np.median([report.rate(one, Stage.SHOWN) for one in flat.ours]))
        live = run_all(stand, rate)
        killed = run_one(stand, by_reference.run, Plan(options.frames, None, KILLS), "workers killed")
        return Runs(flat, live, killed)


def show_all(options: argparse.Namespace, console: Console) -> int:
    """Run the demo; return 1 if anything went wrong."""
    console.print("Pictures that ship with scikit-image:")
    for photograph in microscope.PHOTOGRAPHS:
        console.print(
            f"  {photograph.what} ({photograph.file}), {photograph.author}, {photograph.licence}", soft_wrap=True
        )
    held_before = nds.stats()["bytes"]
    runs = run_both(options, console)
    gc.collect()
    left_bytes = nds.stats()["bytes"] - held_before
    write_pictures(runs.flat, options.out)
    console.print(report.table(runs.flat, runs.live))
    for line in report.remarks(runs.flat, runs.live, left_bytes):
        console.print(line, soft_wrap=True)
    console.print(report.remark_on_deaths(runs.killed, runs.flat.ours[-1]), soft_wrap=True)
    console.print(f"Written to {options.out}: {', '.join(PICTURES)}", soft_wrap=True)
    complaints = judge(runs, left_bytes)
    for complaint in complaints:
        console.print(f"[red]Failed:[/red] {complaint}", soft_wrap=True)
    console.print("Look at the same microscope live, in the browser: make view")
    return 1 if complaints else 0


def main() -> int:
    """Run the demo, and end it cleanly when somebody interrupts it."""
    options, console = arguments(), Console()
    signal.signal(signal.SIGTERM, job.ended)
    try:
        return show_all(options, console)
    except KeyboardInterrupt:
        console.print("Interrupted; all processes have ended.")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
