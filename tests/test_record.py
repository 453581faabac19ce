"""Recording: every frame or a count of what was lost, and what a kill or a full disk leaves."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, alive, run, wait_until
from ndshare import _held, _record, _record_command, _task
from ndshare._recorder import Output
from ndshare._sinks import Look, _pages, _place, _zarr, new_sink
from ndshare._sinks._file import File, LostError, as_bytes
from ndshare._sinks._notes import Notes, notes_path
from ndshare._sources import open_source
from test_strangers import runtime  # noqa: F401  (a registry of names for each test)

SHAPE = (16, 24)
META = np.dtype([("gain", "f4"), ("name", "S8"), ("place", "i2", (2,))])
FIELDS = np.dtype(
    {"names": ["image", "t"], "formats": [("u2", SHAPE), "f8"], "offsets": [0, 768], "itemsize": 832}  # type: ignore[arg-type]
)
PACKAGES = {"zarr": "zarr", "ome.tif": "tifffile", "npy": "numpy", "raw": "numpy"}
FORMATS = list(PACKAGES)


def image(number: int) -> np.ndarray[Any, Any]:
    return np.full(SHAPE, number, np.uint16)


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    """Read a file as somebody does who has no ndshare."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return pytest.importorskip("zarr").open_array(path, mode="r")[:]
    if path.suffix == ".tif":
        return pytest.importorskip("tifffile").imread(path).reshape(-1, *SHAPE)
    facts = json.loads(path.with_name(path.name + ".json").read_text())
    whole = path.stat().st_size // facts["frame_bytes"]
    flat = np.fromfile(path, facts["dtype"], whole * int(np.prod(facts["shape"])))
    return flat.reshape(whole, *facts["shape"])


def numbers_of(path: Path) -> list[int]:
    """Return the number in each frame, which is the same in all of its items."""
    read = frames_of(path)
    assert (read == read[:, :1, :1]).all()
    return read[:, 0, 0].tolist()


def files_in(folder: Path) -> list[str]:
    """Return what a recording left, which is all but the registry of a test."""
    return sorted({*os.listdir(folder)} - {"runtime"})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.with_name(path.name + ".times.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def disk_of(size: str, tmp_path: Path) -> Iterator[Path]:
    """Make a disk of so many bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"no disk can be made here: {os.strerror(ctypes.get_errno())}")
    yield folder
    assert libc.umount2(os.fsencode(folder), 2) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of("256k", tmp_path) as folder:
        yield folder


def write_until(ring: nds.Ring[Any], is_enough: Callable[[], bool]) -> int:
    """Put frames until it is enough; return how many."""
    number, end = 0, time.monotonic() + HANG
    while not is_enough() and time.monotonic() < end:
        ring.put(image(number))
        number += 1
    return number


def under_way(path: Path, frames: int) -> tuple[nds.Ring[Any], nds.Recording]:
    """Return a ring, and a recording of it that goes on and has so many frames."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, path)
    for number in range(frames):
        ring.put(image(number))
    assert wait_until(lambda: recording.stats()["frames"] == frames, HANG)
    return ring, recording


def write(path: Path, ring: nds.Ring[Any], frames: list[Any], sidecar: str | None = "npy") -> Path:
    """Write frames of a ring as the process that records does."""
    assert ring.shape is not None
    output = Output(path, Look(ring.shape, ring.dtype, ring.meta), sidecar)
    output.write(frames)
    output.close()
    assert output.frames == len(frames)
    return path


@pytest.mark.parametrize("ending", FORMATS)
def test_every_frame_is_in_the_file_with_its_time_and_meta(ending: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    ring = nds.Ring(SHAPE, np.uint16, slots=8, meta=META)
    frames, path = ring.reader(), tmp_path / f"run.{ending}"
    before = time.time_ns()
    # By the process for one that is plain, and one that has a package.
    recording = nds.record(ring, path, sidecar="csv") if ending in ("npy", "zarr") else None
    for number in range(8):
        ring.put(image(number), gain=number / 2, name="cell", place=[number, -1])
    if recording is None:
        seen = ring.reader(start="oldest")
        write(path, ring, [seen.get(timeout=0) for _ in range(8)], "csv")
        seen.close()
    else:
        stats = recording.stop(HANG)
        assert (stats["frames"], stats["lost"], stats["bytes"]) == (8, 0, 8 * image(0).nbytes)
    assert numbers_of(path) == list(range(8))
    rows = rows_of(path)
    assert [int(row["seq"]) for row in rows] == list(range(8))
    assert [int(row["time_ns"]) for row in rows] == [frames.get(timeout=0).time_ns for _ in range(8)]
    assert [(row["gain"], row["name"], row["place.0"], row["place.1"]) for row in rows[2:4]] == [
        ("1.0", "cell", "2", "-1"),
        ("1.5", "cell", "3", "-1"),
    ]
    utc = np.array([row["utc"].rstrip("Z") for row in rows], "M8[ns]").astype(np.int64)
    assert (utc >= before - 10**9).all()
    assert (utc <= time.time_ns() + 10**9).all()
    assert ring.stats()["readers"][1:] == []


def test_a_table_as_parquet_has_a_column_for_each_number(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    ring = nds.Ring(SHAPE, np.uint16, slots=8, meta=META)
    frames = ring.reader()
    for number in range(3):
        ring.put(image(number), gain=number / 2, name="cell", place=[number, -1], time_ns=number)
    ring.put(image(3), time_ns=2**63 - 1)
    write(tmp_path / "run.npy", ring, [frames.get(timeout=0) for _ in range(4)], "parquet")
    table = parquet.read_table(tmp_path / "run.npy.times.parquet")
    assert table.column_names == ["seq", "time_ns", "utc", "gain", "name", "place.0", "place.1"]
    assert table.column("place.0").to_pylist() == [0, 1, 2, 0]
    assert table.column("name").to_pylist() == ["cell"] * 3 + [""]
    assert table.column("utc").to_pylist()[0].tzinfo is not None
    assert table.column("utc").to_pylist()[3] is None
    assert files_in(tmp_path) == ["run.npy", "run.npy.times.parquet"]


def test_a_stamp_of_utc_is_its_date(tmp_path: Path) -> None:
    """It was counted from the start of the machine, which gave a date in 2083."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    frames, now = ring.reader(), time.time_ns()
    for stamp in (now, now + 37 * 10**9):  # UTC, and TAI, which PTP may have
        ring.put(image(0), time_ns=stamp)
    rows = rows_of(write(tmp_path / "run.npy", ring, [frames.get(timeout=0) for _ in range(2)], "csv"))
    assert [int(np.datetime64(row["utc"].rstrip("Z"), "ns").astype(np.int64)) for row in rows] == [
        now,
        now + 37 * 10**9,
    ]


@pytest.mark.parametrize("stamp", [2**63 - 1, 2**63 - 10**18])
def test_a_stamp_for_which_there_is_no_date_has_none(stamp: int, tmp_path: Path) -> None:
    """It was one of the 17th century: the sum of stamp and offset has no room in 63 bits."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    frames = ring.reader()
    for time_ns in (0, stamp):
        ring.put(image(0), time_ns=time_ns)
    path = write(tmp_path / "run.npy", ring, [frames.get(timeout=0) for _ in range(2)], "csv")
    dated, none = rows_of(path)
    now = np.datetime64(time.time_ns(), "ns") - np.datetime64(time.monotonic_ns(), "ns")
    assert abs(np.datetime64(dated["utc"].rstrip("Z")) - np.datetime64(0, "ns") - now) < np.timedelta64(1, "s")
    assert (none["time_ns"], none["utc"]) == (str(stamp), "")
    with nds.replay(path, speed=None) as replay:
        assert [frame.time_ns for frame in replay.ring.reader()] == [0, stamp]


NOTES = [None, "text of\nseveral lines, µm", {"channels": ["DAPI", None], "gain": 1.5}, b"\0\xff", "long " * 20_000]


def test_notes_are_lines_of_json_for_the_frames_that_have_one(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    frames = ring.reader()
    for note in NOTES:
        ring.put(image(0), note=note)
    path = write(tmp_path / "run.npy", ring, [frames.get(timeout=0) for _ in NOTES])
    lines = [json.loads(line) for line in notes_path(path).read_text().splitlines()]
    assert [(line["frame"], line["seq"]) for line in lines] == [(number, number) for number in (1, 2, 3, 4)]
    assert [line.get("note", line.get("base64")) for line in lines] == [*NOTES[1:3], "AP8=", NOTES[4]]
    # Half a line is what a kill leaves.
    with notes_path(path).open("a") as file:
        file.write('{"frame": 5, "seq"')
    notes = Notes(notes_path(path))
    assert [notes.get(number) for number in (0, 1, 2, 3, 4, 5, 6, 3, 0, 1)] == [
        *NOTES,
        None,
        None,
        NOTES[3],
        *NOTES[:2],
    ]
    notes_path(path).write_text("{}\n")
    with pytest.raises(ValueError, match=r"expected a line of JSON with frame and note in .*run\.npy\.notes\.jsonl"):
        Notes(notes_path(path)).get(0)


@pytest.mark.parametrize("line", ["[]", '"text"', "3", '{"frame": Infinity}', "{}", "no JSON"])
def test_a_line_of_notes_that_is_none_is_an_error_that_says_so(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.npy.notes.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match="expected a line of JSON with frame and note"):
        Notes(path).get(0)


def test_notes_of_frames_that_are_not_whole_are_cut_off(small_disk: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    frames = ring.reader()
    output = Output(small_disk / "run.npy", Look(SHAPE, np.dtype("u2"), None), "npy")
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        while True:
            for number in range(3):
                ring.put(image(number), note="x" * 100)
            output.write([frames.get(timeout=0) for _ in range(3)])
    output.close()
    noted = [json.loads(line)["frame"] for line in notes_path(small_disk / "run.npy").read_text().splitlines()]
    assert noted == list(range(output.frames))
    assert len(np.load(small_disk / "run.npy")) == output.frames > 10


def test_items_with_fields_go_to_arrays_or_stay_as_they_are(tmp_path: Path) -> None:
    camera = {"image": (SHAPE, "u2"), "t": ((), "f8")}
    ring = nds.Ring(fields={"left": camera, "pair": (((3,), ">i4"), ((), "f4"))}, slots=8)
    reader = ring.reader()
    for number in range(3):
        with ring.write() as frame:
            frame.left.image[...], frame.left.t[...], frame["pair"]["0"][...] = number, number / 2, [number, 0, -1]
    frames = [reader.get(timeout=0) for _ in range(3)]
    raw = np.fromfile(write(tmp_path / "run.raw", ring, frames), ring.dtype)
    for read in (np.load(write(tmp_path / "run.npy", ring, frames)), raw):
        assert read.dtype == ring.dtype
        assert (read["left"]["t"] == [0, 0.5, 1]).all()
        assert (read["left"]["image"][2] == 2).all()
    pytest.importorskip("tifffile")
    with pytest.raises(TypeError, match=r"record to \.zarr, \.npy or \.raw"):
        nds.record(ring, tmp_path / "run.tif")
    group = pytest.importorskip("zarr").open_group(write(tmp_path / "run.zarr", ring, frames), mode="r")
    assert (group["left/t"][:] == [0, 0.5, 1]).all()
    assert group["left/image"].shape == (3, *SHAPE)
    assert (group["left/image"][2] == 2).all()
    assert group["pair/0"][2].tolist() == [2, 0, -1]
    with pytest.raises(TypeError, match=r"the field '\.\./a' is uint8 .*: record to \.npy or \.raw"):
        nds.record(nds.Ring(fields={"../a": ((), "u1")}, slots=2), tmp_path / "out.zarr")


def test_before_takes_at_most_so_many_of_what_the_ring_has(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8, keep=4)
    for number in range(6):
        ring.put(image(number))
    with nds.record(ring, tmp_path / "two.npy", before=2) as two:
        ring.put(image(6))
    assert (numbers_of(two.path), two.stats()["lost"]) == ([4, 5, 6], 0)
    with nds.record(ring, tmp_path / "all.npy", before=1000) as everything:
        pass
    recorded = numbers_of(everything.path)
    assert recorded == list(range(7))[-len(recorded) :]
    assert (len(recorded) >= 4, everything.stats()["lost"]) == (True, 0)


def test_before_loses_nothing_while_the_process_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames from before were lost: the reader stood still meanwhile."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8, keep=4, meta=META)

    def film(frames: range) -> None:
        for number in frames:
            ring.put(image(number), timeout=HANG, gain=number, note=None if number % 2 else f"note {number}")

    film(range(6))
    planned = _record._planned  # pyright: ignore[reportPrivateUsage]

    def slow(*given: Any, **more: Any) -> Any:
        film(range(6, 40))  # nobody but the recording reads: more than the ring has slots
        return planned(*given, **more)

    monkeypatch.setattr(_record, "_planned", slow)
    with nds.record(ring, tmp_path / "run.npy", before=4, sidecar="csv") as recording:
        film(range(40, 44))
    stats = recording.stats()
    assert numbers_of(recording.path) == list(range(2, 44))
    assert (stats["frames"], stats["before"], stats["lost"]) == (42, 4, 0)
    assert [float(row["gain"]) for row in rows_of(recording.path)] == list(range(2, 44))
    notes = Notes(notes_path(recording.path))
    assert [notes.get(number) for number in range(42)] == [None if n % 2 else f"note {n}" for n in range(2, 44)]
    # Without keep a ring need not have what its readers took.
    poor = nds.Ring(SHAPE, np.uint16, slots=8)
    reader = poor.reader()
    for number in range(12):
        poor.put(image(number))
        reader.get(timeout=0)
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match=r"expected 6 frames from before, got \d: .* make it with keep=6"):
        nds.record(poor, tmp_path / "poor.npy", before=6, frames=1).stop()


def test_it_ends_after_so_many_frames_or_seconds_and_with_the_stream(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    some = nds.record(ring, tmp_path / "some.npy", frames=3)
    while_it_lasts = nds.record(ring, tmp_path / "lasts.npy", seconds=0.2)
    all_of_it = nds.record(ring, tmp_path / "all.npy")
    with ring:
        for number in range(5):
            ring.put(image(number))
        assert some.wait(HANG)["frames"] == 3
        assert while_it_lasts.wait(HANG)["frames"] <= 5
        with pytest.raises(nds.Timeout, match="goes on after 0 s"):
            all_of_it.wait(0)
    assert all_of_it.wait(HANG)["frames"] == 5
    assert all_of_it.stop()["frames"] == all_of_it.wait()["frames"] == all_of_it.stats()["frames"] == 5


def test_a_file_that_was_cut_meanwhile_is_no_success(tmp_path: Path) -> None:
    file = File(tmp_path / "run")
    file.write(0, [as_bytes(np.zeros(5000))])
    os.truncate(tmp_path / "run", 100)
    with pytest.raises(LostError, match="was cut to 100 bytes"):
        file.close(40_000)


def test_a_recording_whose_file_was_taken_away_says_so(tmp_path: Path) -> None:
    """It told of so many frames, and there was nothing."""
    _ring, recording = under_way(tmp_path / "run.npy", 3)
    (tmp_path / "run.npy").unlink()
    with pytest.raises(nds.RecordError, match="removed or replaced while it was recorded"):
        recording.stop()


def test_what_is_held_is_bounded_in_bytes_where_frames_differ_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame's size counted for all: after a small one thousands of large ones were held."""
    monkeypatch.setattr(_held, "_MOST_BYTES", 4096)
    ring = nds.Ring(slots=2, when_full="drop_oldest")
    ring.put(np.zeros(1, np.uint8))
    holding = _held.Holding(ring, 1)
    for number in range(8):
        ring.put(np.zeros(1024, np.uint8))
        wait_until(lambda number=number: len(holding._frames) >= min(number + 2, 5))  # type: ignore[misc]
    time.sleep(10 * _held._NAP)
    assert [frame.nbytes for frame in holding._frames] == [1, *[1024] * 4]
    holding.drop()


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 40)"])
    process.wait()
    task = _task.Task.__new__(_task.Task)
    task._process = process  # type: ignore[assignment]
    assert task.how_it_died() == f"process {process.pid} was killed by signal 40"


def test_lost_frames_are_counted_and_are_gaps_in_the_table(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=4, when_full="drop_oldest")
    recording = nds.record(ring, tmp_path / "run.npy", sidecar="csv")
    ring.put(image(0))
    assert wait_until(lambda: recording.stats()["frames"] == 1, HANG)
    os.kill(recording.pid, signal.SIGSTOP)
    for number in range(1, 21):
        ring.put(image(number))
    os.kill(recording.pid, signal.SIGCONT)
    stats = recording.stop(HANG)
    seqs = [int(row["seq"]) for row in rows_of(recording.path)]
    assert seqs == numbers_of(recording.path)
    assert (seqs[0], seqs[-1]) == (0, 20)
    assert stats["lost"] == 21 - len(seqs) > 0


def test_a_ring_that_waits_is_held_back_and_loses_nothing(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=4)
    recording = nds.record(ring, tmp_path / "run.npy")
    os.kill(recording.pid, signal.SIGSTOP)
    for number in range(4):
        ring.put(image(number))
    with pytest.raises(nds.Full):
        ring.put(image(4), timeout=0.05)
    os.kill(recording.pid, signal.SIGCONT)
    ring.put(image(4), timeout=HANG)
    assert recording.stop(HANG)["lost"] == 0
    assert numbers_of(recording.path) == list(range(5))


# ---- what a kill leaves ---------------------------------------------------------------------------------------------

# Writers that are killed at instants of their own, one after the other; each writes until then.
KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from ndshare import _record, _record_command
from ndshare._recorder import Output
from ndshare._sinks import Look, _pages, new_sink
from ndshare._sinks._file import File
from ndshare._sinks._notes import Notes, notes_path
from ndshare._sources import open_source
from ndshare._sinks._times import TimesSink, paths_of
form, ending, folder, rounds = *sys.argv[1:4], int(sys.argv[4])
look = Look((16, 24), np.dtype("u2"), None)
if form in ("zarr", "tiff"):
    __import__({"zarr": "zarr", "tiff": "tifffile"}[form])

class Frame:
    def __init__(self, number):
        self.seq, self.time_ns, self.meta = number, number, None

for round in range(rounds):
    path = Path(folder, f"run{round}.{ending}")
    told = os.pipe()
    child = os.fork()
    if not child:
        times, sink = TimesSink(paths_of(path), "npy", None), new_sink(form, path, look)
        os.write(told[1], b"x")
        number = 0
        while True:
            batch = range(number, number + 1 + round % 3)
            times.write([Frame(one) for one in batch])
            sink.write([np.full((16, 24), one, np.uint16) for one in batch])
            number += len(batch)
    os.read(told[0], 1)
    time.sleep(random.random() * 0.004)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_whole_is_readable_after_a_kill_at_any_instant(ending: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    form, rounds = {"ome.tif": "tiff"}.get(ending, ending), 8
    subprocess.run([sys.executable, "-c", KILLED, form, ending, tmp_path, str(rounds)], check=True, timeout=HANG)
    seen = 0
    for number in range(rounds):
        path = tmp_path / f"run{number}.{ending}"
        rows = np.load(f"{path}.times.npy")
        assert rows["seq"].tolist() == list(range(len(rows)))
        if ending == "ome.tif" and is_without_pages(path):
            continue
        recorded = numbers_of(path)
        assert recorded == list(range(len(recorded)))
        # A row comes before its frame.
        assert len(recorded) <= len(rows)
        seen += len(recorded)
    assert seen > rounds


def is_without_pages(path: Path) -> bool:
    """Tell whether a BigTIFF has no first page yet; readers refuse such a file."""
    return path.read_bytes()[8:16] == bytes(8)


def test_the_death_of_the_process_is_an_error_that_says_what_is_whole(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, tmp_path / "run.npy")
    write_until(ring, lambda: recording.stats()["frames"] >= 20)
    os.kill(recording.pid, signal.SIGKILL)
    with pytest.raises(nds.RecordError, match=r"was killed by SIGKILL; \d+ frames are whole") as caught:
        recording.wait(HANG)
    recorded = numbers_of(recording.path)
    assert recorded == list(range(len(recorded)))
    assert len(recorded) >= caught.value.frames >= 20
    assert len(np.load(f"{recording.path}.times.npy")) >= len(recorded)
    assert wait_until(lambda: not any(reader["alive"] for reader in ring.stats()["readers"]), HANG)


PARENT = """
import sys, time, numpy as np, ndshare as nds
ring = nds.Ring((16, 24), np.uint16, slots=8)
recording = nds.record(ring, sys.argv[1], sidecar="csv")
ring.put(np.zeros((16, 24), np.uint16))
while not recording.stats()["frames"]:
    time.sleep(0.01)
print(recording.pid, flush=True)
time.sleep(1000)
"""


def test_a_recording_ends_in_order_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    path = tmp_path / "run.npy"
    with subprocess.Popen([sys.executable, "-c", PARENT, path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        recorder = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: not alive(recorder), HANG)
    assert numbers_of(path) == [0]
    assert [row["seq"] for row in rows_of(path)] == ["0"]


def test_a_forked_child_keeps_no_recording_from_ending(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, tmp_path / "run.npy")
    # It has all pipes of its parent.
    child = os.fork()
    if not child:
        while True:
            signal.pause()
    ring.put(image(0))
    try:
        assert recording.stop(HANG)["frames"] == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


WRITER = """
import sys, time, numpy as np, ndshare as nds
with nds.ref(sys.argv[1]).open() as writer:
    for number in range(3):
        writer.put(np.full((16, 24), number, np.uint16))
    print("written", flush=True)
    time.sleep(1000)
"""


def write_three_and_die(writer: nds.Writer[Any]) -> None:
    command = [sys.executable, "-c", WRITER, str(reference := nds.ref(writer))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        del reference, writer
        process.kill()


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "late"])
def test_the_death_of_the_last_writer_ends_it(is_late: bool, tmp_path: Path) -> None:
    """A recorder that was late had read some frames when it heard of the death, and lost them by that."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    writers = [ring.writer()]
    recording = nds.record(ring, tmp_path / "run.npy")
    if is_late:
        os.kill(recording.pid, signal.SIGSTOP)
    write_three_and_die(writers.pop())
    os.kill(recording.pid, signal.SIGCONT)
    with pytest.raises(nds.RecordError, match=r"the last writer of the ring died .*; 3 frames are whole"):
        recording.wait(HANG)
    assert numbers_of(recording.path) == [0, 1, 2]


def test_a_death_while_the_process_starts_ends_it_behind_the_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording had a reader that was made later, heard of no death, and went on for ever."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8, keep=4)
    writers, planned = [ring.writer()], _record._planned  # pyright: ignore[reportPrivateUsage]

    def slow(*given: Any, **more: Any) -> Any:
        frames = ring.reader()  # who begins to read after another has heard of the death does not hear of it
        write_three_and_die(writers.pop())
        for _ in range(3):
            frames.get(timeout=HANG)
        with pytest.raises(nds.WriterDied):
            frames.get(timeout=HANG)
        return planned(*given, **more)

    monkeypatch.setattr(_record, "_planned", slow)
    recording = nds.record(ring, tmp_path / "run.npy", before=2)
    with pytest.raises(nds.RecordError, match=r"the last writer of the ring died .*process \d+.*; 3 frames are whole"):
        recording.wait(HANG)
    assert (numbers_of(recording.path), recording.stats()["before"]) == ([0, 1, 2], 0)


# ---- full disks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npy", "zarr"])
def test_where_a_file_may_not_grow_what_is_whole_is_readable(ending: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, tmp_path / f"run.{ending}", sidecar="csv")
    # The index of a shard is 64 KiB.
    limit = (16 if ending == "zarr" else 1) * 4096 + 12_345
    resource.prlimit(recording.pid, resource.RLIMIT_FSIZE, (limit, limit))
    number = write_until(ring, lambda: not alive(recording.pid))
    with pytest.raises(nds.RecordError, match=r"File too large; \d+ frames are whole and can be read: free") as caught:
        recording.wait(HANG)
    recorded = numbers_of(recording.path)
    assert recorded == list(range(caught.value.frames))
    assert 0 < len(recorded) < number
    assert [int(row["seq"]) for row in rows_of(recording.path)] == recorded


def test_on_a_full_disk_what_is_whole_is_readable(small_disk: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, small_disk / "run.npy", sidecar="npy", frames=10**6)
    number = write_until(ring, lambda: not alive(recording.pid))
    with pytest.raises(nds.RecordError, match=r"No space left on device; \d+ frames are whole") as caught:
        recording.wait(HANG)
    recorded = numbers_of(recording.path)
    assert recorded == list(range(caught.value.frames))
    assert 10 < len(recorded) < number


@pytest.mark.parametrize("ending", FORMATS)
def test_each_format_is_readable_on_a_full_disk(ending: str, small_disk: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    path = small_disk / f"run.{ending}"
    sink, number = new_sink({"ome.tif": "tiff"}.get(ending, ending), path, Look(SHAPE, np.dtype("u2"), None)), 0
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        while True:
            sink.write([image(number), image(number + 1)])
            number += 2
    assert numbers_of(path)[:number] == list(range(number))
    sink.close()
    assert numbers_of(path) == list(range(sink.frames))
    assert sink.frames > 10


def test_where_room_is_set_aside_the_file_is_not_longer_by_it(tmp_path: Path, small_disk: Path) -> None:
    for folder, blocks in ((tmp_path, 500), (small_disk, 0)):
        file = File(folder / "run.npy", 300 * 1024)
        assert (folder / "run.npy").stat().st_size == 0
        # What a small disk has no room for is not set aside.
        assert (folder / "run.npy").stat().st_blocks >= blocks
        assert blocks or (folder / "run.npy").stat().st_blocks == 0
        file.close(0)
        assert (folder / "run.npy").stat().st_blocks == 0


# ---- RAM drives -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ram_drive() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ndshare-tests-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("expected", [None, 11], ids=["some", "known"])
@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_copied_into_pages_is_what_plain_writes_write(
    ending: str, expected: int | None, ram_drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(PACKAGES[ending])
    monkeypatch.setattr(_pages, "STEP", _pages.HUGE)
    monkeypatch.setattr(_pages, "AHEAD", 2 * _pages.HUGE)
    monkeypatch.setattr(_pages, "AT_ONCE", 2 * _pages.HUGE)
    form, shape = {"ome.tif": "tiff"}.get(ending, ending), (600, 512)
    frames = [np.random.default_rng(n).integers(0, 9, shape).astype("u2") for n in range(11)]
    copied = list[int]()
    copy = _pages.Pages.copy

    def counting(pages: _pages.Pages, offset: int, piece: Any) -> int:
        copied.append(done := copy(pages, offset, piece))
        return done

    def files(name: str) -> dict[str, bytes]:
        path = ram_drive / f"{name}.{ending}"
        sink = new_sink(form, path, Look(shape, np.dtype("u2"), None, expected))
        for number in range(0, 11, 3):
            sink.write(frames[number : number + 3])
            if ending == "npy":
                assert (np.load(path)[: number + 3] == frames[: number + 3]).all()
        sink.close()
        found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        # OME-TIFF has an identity of its own in each file.
        return {str(one.relative_to(path)): re.sub(rb"(?<=uuid:)[-0-9a-f]{36}", b"", one.read_bytes()) for one in found}

    monkeypatch.setattr(_pages.Pages, "copy", counting)
    by_pages = files("pages")
    monkeypatch.setattr(_pages.Pages, "copy", lambda *_: 0)
    assert by_pages == files("plain")
    if expected is None and sum(copied) == 0:
        pytest.skip("this kernel gives a RAM drive no pages of 2 MiB")
    assert sum(copied) > 0


@pytest.mark.parametrize("fault", ["none to be had", "full"])
def test_where_pages_end_plain_writes_go_on(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pages, "STEP", _pages.HUGE)
    monkeypatch.setattr(_pages, "AHEAD", _pages.HUGE)
    folder, frame = tmp_path, np.full((1024, 512), 7, np.uint16)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(disk_of("20m", tmp_path))
        if fault == "none to be had":
            monkeypatch.setattr(_pages, "_COLLAPSE", -1)
        sink = new_sink("raw", folder / "run.raw", Look(frame.shape, frame.dtype, None))
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012
            while True:
                sink.write([frame])
        sink.close()
        read = np.fromfile(folder / "run.raw", np.uint16).reshape(-1, *frame.shape)
        assert (read == 7).all()
        assert len(read) == sink.frames == 19
        assert json.loads((folder / "run.raw.json").read_text())["frames"] == 19


def test_a_kill_on_a_ram_drive_leaves_what_is_whole(ram_drive: Path) -> None:
    ring = nds.Ring((512, 512), np.uint16, slots=8)
    recordings = [nds.record(ring, ram_drive / name, sidecar=False) for name in ("run.raw", "run.npy")]
    for number in range(12):
        ring.put(np.full((512, 512), number, np.uint16))
    for recording in recordings:
        assert wait_until(lambda recording=recording: recording.stats()["frames"] == 12, HANG)  # type: ignore[misc]
        os.kill(recording.pid, signal.SIGKILL)
        with pytest.raises(nds.RecordError, match="12 frames are whole"):
            recording.wait(HANG)
    for path in (ram_drive / "run.raw", ram_drive / "run.npy"):
        source = open_source(path)
        assert [int(source.get(number)[9, 9]) for number in range(source.frames)] == list(range(12))


# ---- the sinks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [None, 4], ids=["big", "classic"])
@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((15, 21), "u1", "TYX"),
        ((15, 21), ">i2", "TYX"),
        ((15, 21), "c8", "TYX"),
        ((15, 21, 3), "u1", "TYXS"),
        ((15, 21, 4), "u2", "TYXS"),
        ((3, 15, 21), "f4", "TZYX"),
        ((2, 3, 15, 21), "u2", "TCZYX"),
        ((512, 1024), "u2", "TYX"),
    ],
    ids=str,
)
def test_a_tiff_is_what_tifffile_reads(
    shape: tuple[int, ...], dtype: str, axes: str, expected: int | None, tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    frames = [np.random.default_rng(n).integers(0, 100, shape).astype(dtype) for n in range(4)]
    sink = new_sink("tiff", tmp_path / "a.ome.tif", Look(shape, np.dtype(dtype), None, expected))
    sink.write(frames[:1])
    sink.write(frames[1:])
    sink.close()
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert (file.is_bigtiff, file.is_ome) == (expected is None, True)
        assert (file.series[0].axes, file.series[0].shape) == (axes, (4, *shape))
        assert (file.asarray() == np.stack(frames)).all()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((), "f8"), ((30,), ">u4"), ((5, 7, 3), "M8[ns]"), ((2, 0), "u1"), ((512, 1024), "u2")],
    ids=str,
)
def test_shards_are_what_zarr_reads(
    shape: tuple[int, ...], dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr = pytest.importorskip("zarr")
    look = Look(shape, np.dtype(dtype), None)
    # Three frames to a shard.
    monkeypatch.setattr("ndshare._sinks._zarr._SHARD_BYTES", 3 * max(1, look.frame_bytes))
    frames = [np.random.default_rng(n).integers(0, 100, shape).astype(dtype) for n in range(7)]
    sink = new_sink("zarr", tmp_path / "a.zarr", look)
    for frame in frames:
        sink.write([frame])
    sink.close()
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert (array.shape, array.shards[0], array.dtype) == ((7, *shape), 3, np.dtype(dtype).newbyteorder("="))
    assert (array[:] == np.stack(frames)).all()
    assert (array[5] == frames[5]).all()


@pytest.mark.parametrize("name", ["é" * 900, "a" * 5000])
def test_an_npy_header_may_be_long(name: str, tmp_path: Path) -> None:
    # The place of the number comes near the end of a page.
    dtype = np.dtype([(name, "u1"), ("b", "f8", (3,))])
    sink = new_sink("npy", tmp_path / "a.npy", Look((2,), dtype, None))
    sink.write([np.zeros((2,), dtype)] * 3)
    sink.close()
    read = np.load(tmp_path / "a.npy", max_header_size=1 << 20)
    assert (read.shape, read.dtype) == ((3, 2), dtype)


# ---- what is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_frames_that_look_otherwise_end_it(together: bool) -> None:
    """On a file in memory it died of a wrong frame that came alone: none were left to write before it."""
    ring = nds.Ring(slots=8)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ndshare-tests-") as folder:
        recording = nds.record(ring, Path(folder, "run.npy"))
        ring.put(image(0))
        assert together or wait_until(lambda: recording.stats()["frames"] == 1, HANG)
        ring.put(image(1)[:8])
        expected = r"as the first one, got frame 1 of \(8, 24\) uint16; 1 frames are whole"
        with pytest.raises(nds.RecordError, match=expected):
            recording.wait(HANG)
        assert numbers_of(recording.path) == [0]


def test_frames_that_the_format_does_not_have_end_it(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    ring = nds.Ring(slots=8)
    recording = nds.record(ring, tmp_path / "run.tif")
    ring.put(np.zeros(3))
    with pytest.raises(nds.RecordError, match="expected frames of 2, 3 or 4 dimensions for TIFF"):
        recording.wait(HANG)
    assert files_in(tmp_path) == []


def test_a_recording_is_not_written_over_unless_that_is_wanted(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    frames = ring.reader()
    ring.put(image(0), note="old")
    write(tmp_path / "run.raw", ring, [frames.get(timeout=0)], "csv")
    frames.close()
    assert numbers_of(tmp_path / "run.raw") == [0]
    with nds.record(ring, tmp_path / "run.raw", overwrite=True, sidecar=False) as recording:
        ring.put(image(1), note="new")
        assert wait_until(lambda: recording.stats()["frames"] == 1, HANG)
        with pytest.raises(FileExistsError, match=r"one recording to .*run\.raw at a time, got another that goes on"):
            nds.record(ring, tmp_path / "run.raw", overwrite=True)
    assert numbers_of(tmp_path / "run.raw") == [1]
    assert files_in(tmp_path) == ["run.raw", "run.raw.json"]
    with pytest.raises(
        FileExistsError, match=r"got run\.raw there: choose another name, or pass overwrite=True"
    ) as caught:
        nds.record(ring, tmp_path / "run.raw")
    told = _record_command._in_options(str(caught.value))  # pyright: ignore[reportPrivateUsage]
    assert told.endswith("or pass --overwrite")
    (tmp_path / "mine.zarr").mkdir()
    pytest.importorskip("zarr")
    with pytest.raises(FileExistsError, match="got a folder of something else"):
        nds.record(ring, tmp_path / "mine.zarr", overwrite=True)
    assert ring.stats()["readers"] == []


@pytest.mark.parametrize("ending", FORMATS)
def test_an_old_recording_stays_until_a_frame_of_the_new_one_is_whole(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed before there was another."""
    pytest.importorskip(PACKAGES[ending])
    monkeypatch.setattr(_zarr, "_MOST_FRAMES", 2)  # the next shard is made when the place has changed
    ring, path = nds.Ring(SHAPE, np.uint16, slots=8), tmp_path / f"run.{ending}"
    frames = ring.reader()
    for number in range(6):
        ring.put(image(number), note=f"note {number}")
    old, *new = [frames.get(timeout=0) for _ in range(6)]
    write(path, ring, [old], "csv")
    for wanted, said in ((0, []), (5, new)):
        place = _place.Replacement(path)
        output = Output(path, Look(SHAPE, np.dtype("u2"), None), "npy", place)
        assert numbers_of(path) == [0]
        with pytest.raises(FileExistsError, match=r"expected one recording to .* at a time, got another that goes on"):
            _place.Replacement(path)
        for frame in said:
            output.write([frame])
            assert numbers_of(path) == list(range(1, output.frames + 1))
        assert _place.is_taken(path) == bool(said)
        output.close()
        place.close()
        assert numbers_of(path) == (list(range(1, wanted + 1)) or [0])
    notes = Notes(notes_path(path))
    assert [notes.get(number) for number in range(6)] == [*(f"note {number}" for number in range(1, 6)), None]
    described = ["run.raw.json"] if ending == "raw" else []
    assert files_in(tmp_path) == sorted([path.name, *described, f"{path.name}.notes.jsonl", f"{path.name}.times.npy"])


# Children that die at each step of one taking the place of the other.
REPLACED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from ndshare import _record, _record_command
from ndshare._recorder import Output
from ndshare._sinks import Look, _place

class Frame(np.ndarray):
    seq, time_ns, meta, note = 7, 7, None, None

def new(path, place=None):
    output = Output(path, Look((2,), np.dtype("u1"), None), "npy", place)
    output.write([np.full(2, 7 if place else 3, "u1").view(Frame)] * (2 if place else 1))
    output.close()

def dying(name, at):
    does, left = getattr(_place, name), [at]
    def do(*given):
        does(*given)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(_place, name, do)

for round, (name, at) in enumerate([("_move", 4), ("_exchange", 1), ("_move", 8)]):
    path = Path(sys.argv[1], f"{round}.npy")
    new(path)
    if not (child := os.fork()):
        dying(name, at)
        new(path, _place.Replacement(path))
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    items, table = np.load(path), Path(f"{path}.times.npy")
    assert items[:, 0].tolist() in ([3], [7, 7])
    assert not table.exists() or len(np.load(table)) == len(items)
    place = _place.Replacement(path)
    new(path, place)
    place.close()
    assert np.load(path).tolist() == [[7, 7]] * 2
"""


def test_a_kill_leaves_the_old_recording_or_the_new_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", REPLACED, tmp_path], check=True, timeout=HANG)
    assert len(files_in(tmp_path)) == 6


def test_a_bad_call_says_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    with pytest.raises(ValueError, match=r"ends in \.npy, \.raw, \.tif, \.ome\.tif or \.zarr, got .*run\.mp4"):
        nds.record(ring, tmp_path / "run.mp4")
    with pytest.raises(ValueError, match=r"expected at least 1 frame, .* got frames=0"):
        nds.record(ring, tmp_path / "run.npy", frames=0)
    with pytest.raises(ValueError, match="expected the sidecar 'parquet', 'csv', 'npy', None or False, got 'xls'"):
        nds.record(ring, tmp_path / "run.npy", sidecar="xls")
    with pytest.raises(FileNotFoundError, match=r"expected a folder .*/no, got none"):
        nds.record(ring, tmp_path / "no" / "run.npy")
    for package, name in (("zarr", "run.zarr"), ("tifffile", "run.tif")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=f"expected {package}.*pip install"):
            nds.record(ring, tmp_path / name)
    assert files_in(tmp_path) == []


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runtime")
def test_the_command_records_until_ctrl_c(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    nds.publish("recorded", ring)
    path = tmp_path / "run.npy"
    command = [sys.executable, "-m", "ndshare", "--json", "record", "recorded", str(path), "--sidecar", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert wait_until(lambda: bool(ring.stats()["readers"]), HANG)
        number = write_until(ring, lambda: path.exists() and path.stat().st_size > 8192)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG)
    nds.unpublish("recorded")
    assert process.returncode == 0
    stats = json.loads(out)
    assert err == f"ndshare: {stats['frames']} frames in {path}, 0 lost, {stats['bytes'] / 1e9:.3f} GB\n"
    recorded = numbers_of(path)
    assert len(recorded) == stats["frames"]
    assert recorded == list(range(number - len(recorded), number))


DROPPED = """
import os, signal, sys
import ndshare as nds
from ndshare import _record_command

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, _record_command._on_signal)
sys.unraisablehook = lambda told: print("dropped:", told.exc_type.__name__)
recording = nds.record(nds.Ring(3, "u1", slots=4), sys.argv[1])
Late()
print(recording.wait(timeout=60)["frames"])
"""


def test_ctrl_c_in_a_destructor_ends_it_as_well(tmp_path: Path) -> None:
    """Python drops an exception that comes there; the command went on for ever, once in some hundred times."""
    assert run(DROPPED, str(tmp_path / "run.npy")).clean() == "0\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_that_records_ends_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    """By SIGINT it ended with a traceback."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, tmp_path / "run.npy")
    write_until(ring, lambda: recording.stats()["frames"] > 2)
    os.kill(recording.pid, number)
    frames = recording.wait(HANG)["frames"]
    assert frames > 2
    assert numbers_of(recording.path) == list(range(frames))


@pytest.mark.usefixtures("runtime")
def test_the_command_says_what_was_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ndshare", "record", "nobody", str(tmp_path / "run.npy")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 1
    assert done.stderr.startswith("ndshare: ")
    assert "nobody" in done.stderr
