"""The demo runs, loses nothing, leaves nothing behind, and writes pictures that show something.

That its judgement can fail is tested with made-up runs.
"""

import io
import multiprocessing as mp
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, wait_until
from web import Page, request

Image = pytest.importorskip("PIL.Image", reason="the demo's packages are not installed")
pytest.importorskip("skimage", reason="the demo's packages are not installed")
pytest.importorskip("scipy", reason="the demo's packages are not installed")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FRAMES = 5
PLACES = 10  # on a side of the contact sheet
ON_ONE_CPU = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.execv(sys.argv[1], sys.argv[1:])"
)


def command(out: Path, *options: object) -> list[str]:
    """Return how to run the demo with a single run of each kind."""
    arguments = ["--rounds", 1, "--out", out, *options]
    return [sys.executable, str(EXAMPLES / "demo.py"), *map(str, arguments)]


def test_the_demo_runs(tmp_path: Path) -> None:
    # There is room for so few frames, so a camera that waits for nobody loses none either.
    shown = output([sys.executable, "-c", ON_ONE_CPU, *command(tmp_path, "--frames", FRAMES)])
    assert losses(shown) == [[0] * 4] * 4
    assert f"{FRAMES} tiles compared" in shown
    assert "left behind: 0" in shown
    assert shown.endswith("make view\n")
    for name in ("contact-sheet.png", "spectrum.png", "focus-curve.png", "stages.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 1, f"{name} is blank"
    assert tiles_shown(tmp_path / "contact-sheet.png") == FRAMES


def output(words: list[str]) -> str:
    """Run a demo that succeeds, and return what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def losses(shown: str) -> list[list[int]]:
    """Return the losses of each stage from the table: flat out by ndshare and the queue, then live."""
    rows = re.findall(r"^ +lost +(\d+) +(\d+) +(\d+) +(\d+) *$", shown, re.MULTILINE)
    return [list(map(int, row)) for row in rows]


def tiles_shown(sheet: Path) -> int:
    """Return how many places of the first row are not black."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from pictures import ABOVE, BELOW, BESIDE
    finally:
        sys.path.remove(str(EXAMPLES))
    pixels = np.asarray(Image.open(sheet).convert("L"))[ABOVE:-BELOW, BESIDE:-BESIDE]
    height, width = (side // PLACES for side in pixels.shape)
    return sum(bool(pixels[:height, place * width : (place + 1) * width].any()) for place in range(PLACES))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_ends_cleanly_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    # In a session of its own, as for a user: arrays that never reached a child go with its last process.
    process = subprocess.Popen(
        command(tmp_path, "--frames", 10**6),
        env={name: value for name, value in os.environ.items() if name != "NDSHARE_SESSION"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while len(children_of(process.pid)) < 4:  # camera, two workers, and multiprocessing's own
            assert process.poll() is None, process.communicate()
        # A terminal sends Ctrl-C to all processes.
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        # It ends when the last process has closed its end.
        _, complaints = process.communicate()
        assert (process.returncode, complaints) == (128 + number, "")
    finally:
        kill_group(process.pid)
    process.wait()


def test_the_microscope_is_seen_live_until_it_is_interrupted() -> None:
    name = f"live-{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "live.py"), "--no-browser", "--name", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert request(url)[0] == 200
        with Page(url) as page:
            page.wish(window=(12, 16))
            assert page.see().told["shape"] == [1200, 1600]
        os.killpg(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=HANG)
        assert (process.returncode, complaints) == (0, "")
    finally:
        kill_group(process.pid)
    assert name not in nds.names()
    assert wait_until(lambda: not serves(url)), "the viewer's process is left behind"


def serves(url: str) -> bool:
    """Return whether somebody answers there."""
    try:
        return request(url)[0] == 200
    except ConnectionError:
        return False


def children_of(pid: int) -> list[str]:
    """Return the numbers of a process's children."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []


def kill_group(group: int) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import demo

    return demo


def a_run(demo: Any, way: str, *plan: Any) -> Any:
    """Do the job once with a specimen that is made at once."""
    rng = np.random.default_rng(1)
    exposures, background = nds.empty((5, 1210, 1610), np.uint16), nds.zeros((1210, 1610), np.uint16)
    exposures[...] = rng.integers(0, 999, exposures.shape[1:], np.uint16)
    specimen = demo.Specimen(exposures, background)
    return getattr(demo, way).run(demo.Plan(*plan), specimen, lambda _done: None)


@pytest.mark.parametrize("way", ["by_reference", "by_value"])
def test_frames_that_a_camera_loses_are_counted(demo: Any, way: str) -> None:
    one, stage = a_run(demo, way, 40, 5000), demo.job.Stage
    assert 0 < one.dropped == demo.report.missing(one) < 40
    assert demo.report.uncounted(one) == 0
    assert [demo.report.lost(one, each) for each in stage] == [0, one.dropped, 0, 0, 0]


@pytest.mark.crash
def test_killed_workers_lose_no_frame_and_none_is_in_a_sum_twice(demo: Any) -> None:
    calm, killed = a_run(demo, "by_reference", 24, None), a_run(demo, "by_reference", 24, None, 2)
    assert (calm.restarted, killed.restarted) == (0, 2)
    assert demo.report.missing(killed) == killed.dropped == 0
    assert demo.report.is_same(killed, calm)
    # One frame twice, or not at all, would show.
    assert calm.power.min() > 0
    assert (calm.focus > 0).all()


# Its judgement


def an_outcome(demo: Any, **changes: Any) -> Any:
    """Return a run of three frames, one second each, of which every stage takes a tenth."""
    stages, second = len(demo.job.Stage), 10**9
    moments = np.array([[frame * second + stage * second // 10 for frame in range(1, 4)] for stage in range(stages)])
    tiles = {index: np.full((2, 2), index, np.uint16) for index in range(3)}
    whole: dict[str, Any] = {
        "plan": demo.job.Plan(3, None),
        "began": 0,
        "moments": moments,
        "focus": np.full(3, 0.5),
        "power": np.ones((2, 2), np.float32),
        "tiles": tiles,
        "sheet": np.zeros((2, 2), np.uint16),
        "refreshes": [demo.job.Refresh(0.001, 3)],
        "dropped": 0,
    }
    return demo.job.Outcome(**(whole | changes))


def judged(demo: Any, ours: Any, left_bytes: int = 0, killed: Any = None) -> list[str]:
    fine = demo.report.Pair([an_outcome(demo)], [an_outcome(demo)])
    flat = demo.report.Pair([ours], [an_outcome(demo)])
    return demo.judge(demo.Runs(flat, fine, killed or ours), left_bytes)


def test_a_good_run_passes(demo: Any) -> None:
    assert judged(demo, an_outcome(demo)) == []


def without(demo: Any, frame: int) -> Any:
    """Return the moments of a run that lost a frame at the hand-over."""
    moments = an_outcome(demo).moments
    moments[demo.job.Stage.TAKEN :, frame] = 0
    return moments


@pytest.mark.parametrize("lost", [0, 1])
def test_a_bar_is_full_at_the_end_and_says_what_was_lost(demo: Any, lost: int) -> None:
    progress = demo.Progress(demo.MofNCompleteColumn(), demo.LOST, console=demo.Console(file=io.StringIO(), width=99))
    bar = progress.add_task("", total=3, lost="")
    demo.ticker(progress, bar)(3 - lost)
    assert progress.tasks[0].finished == (lost == 0)
    demo.settle(progress, bar, an_outcome(demo, moments=without(demo, 1)) if lost else an_outcome(demo))
    assert progress.tasks[0].finished
    with progress.console.capture() as shown:
        progress.console.print(progress.get_renderable())
    assert ("1 lost: the camera waits for nobody" in shown.get()) == bool(lost)
    assert "3/3" in shown.get()


def test_what_went_wrong_is_said(demo: Any) -> None:
    assert "without being counted" in judged(demo, an_outcome(demo, moments=without(demo, 1)))[0]
    assert "although the camera waited" in judged(demo, an_outcome(demo, moments=without(demo, 1), dropped=1))[0]
    assert "7 bytes" in judged(demo, an_outcome(demo), left_bytes=7)[0]
    other = {index: np.full((2, 2), index + 2, np.uint16) for index in range(3)}
    brighter = np.full((2, 2), 2, np.float32)
    for changes in ({"tiles": other}, {"focus": np.full(3, 0.6)}, {"power": brighter}):
        assert judged(demo, an_outcome(demo, **changes)) == ["the two ways came to different results"]
        killed = an_outcome(demo, **changes)
        assert "were killed came to different results" in judged(demo, an_outcome(demo), killed=killed)[0]
    assert "the two ways came to different results" in judged(demo, an_outcome(demo, tiles={}))


def test_a_difference_of_one_photon_passes(demo: Any) -> None:
    near = {index: np.full((2, 2), index + 1, np.uint16) for index in range(3)}
    assert judged(demo, an_outcome(demo, tiles=near)) == []


def test_figures_of_a_run(demo: Any) -> None:
    report, stage = demo.report, demo.job.Stage
    whole, holed = an_outcome(demo), an_outcome(demo, moments=without(demo, 2), dropped=1)
    assert report.rate(whole, stage.SHOWN) == pytest.approx(3 / 3.4)
    assert report.lags_ms(whole, stage.STORED) == pytest.approx([300, 300, 300])
    assert [report.lost(holed, one) for one in stage] == [0, 1, 0, 0, 0]
    assert report.uncounted(holed) == 0
    late = an_outcome(demo).moments
    late[stage.SHOWN, 0] = late[stage.EXPOSED, 2] + 1
    assert report.lags_in_frames(an_outcome(demo, moments=late), stage.SHOWN).tolist() == [2, 0, 0]


def flip(moments: Any) -> None:
    """Be a worker that stores frames without end."""
    while True:
        moments[:] = 0
        moments[:] = 1


def test_the_sheet_looks_at_moments_while_workers_write_them(demo: Any) -> None:
    # NumPy's nonzero counts, then looks again, and raises RuntimeError when a worker has stored a frame in between.
    moments = nds.zeros((len(demo.job.Stage), 200_000), np.int64)
    worker = mp.get_context("fork").Process(target=flip, args=(moments,))
    worker.start()
    try:
        assert wait_until(moments[demo.job.Stage.STORED].any)
        for _ in range(300):
            assert demo.job.newest(moments).shape == (demo.job.SHEET_TILES,)
    finally:
        worker.kill()
        worker.join()


def test_a_new_tile_takes_the_place_of_the_oldest(demo: Any) -> None:
    job = demo.job
    moments = np.zeros((len(job.Stage), job.SHEET_TILES + 2), np.int64)
    moments[job.Stage.STORED, [0, 1, 3, job.SHEET_TILES]] = 1
    places = job.newest(moments)
    assert places[:4].tolist() == [job.SHEET_TILES, 1, job.NO_FRAME, 3]
    assert [job.note_shown(moments, places, now) for now in (5, 6)] == [3, 0]
