"""Recording: every frame or a count of what was lost, and what a kill or a full disk leaves."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, alive, run, wait_until
from ndshare._sinks import Look, new_sink
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


def write_until(ring: nds.Ring[Any], is_enough: Callable[[], bool]) -> int:
    """Put frames until it is enough; return how many."""
    number, end = 0, time.monotonic() + HANG
    while not is_enough() and time.monotonic() < end:
        ring.put(image(number))
        number += 1
    return number


@pytest.mark.parametrize("ending", FORMATS)
def test_every_frame_is_in_the_file_with_its_time_and_meta(ending: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    ring = nds.Ring(SHAPE, np.uint16, slots=8, meta=META)
    frames, path = ring.reader(), tmp_path / f"run.{ending}"
    before = time.time_ns()
    with nds.record(ring, path, sidecar="csv") as recording:
        for number in range(8):
            ring.put(image(number), gain=number / 2, name="cell", place=[number, -1])
    assert recording.stats()["frames"] == 8
    assert recording.stats()["lost"] == 0
    assert recording.stats()["bytes"] == 8 * image(0).nbytes
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
    with nds.record(ring, tmp_path / "run.npy"):
        for number in range(3):
            ring.put(image(number), gain=number / 2, name="cell", place=[number, -1])
    table = parquet.read_table(tmp_path / "run.npy.times.parquet")
    assert table.column_names == ["seq", "time_ns", "utc", "gain", "name", "place.0", "place.1"]
    assert table.column("place.0").to_pylist() == [0, 1, 2]
    assert table.column("name").to_pylist() == ["cell"] * 3
    assert table.column("utc").to_pylist()[0].tzinfo is not None
    assert files_in(tmp_path) == ["run.npy", "run.npy.times.parquet"]


def test_items_with_fields_go_to_arrays_or_stay_as_they_are(tmp_path: Path) -> None:
    ring = nds.Ring((), FIELDS, slots=8)

    def record(name: str) -> Path:
        with nds.record(ring, tmp_path / name, sidecar=False) as recording:
            for number in range(3):
                with ring.write() as frame:
                    frame["image"], frame["t"] = number, number / 2
        return recording.path

    for read in (np.load(record("run.npy")), np.fromfile(record("run.raw"), FIELDS)):
        assert read.dtype == FIELDS
        assert (read["t"] == [0, 0.5, 1]).all()
        assert (read["image"][2] == 2).all()
    pytest.importorskip("tifffile")
    with pytest.raises(TypeError, match=r"record to \.zarr, \.npy or \.raw"):
        record("run.tif")
    group = pytest.importorskip("zarr").open_group(record("run.zarr"), mode="r")
    assert (group["t"][:] == [0, 0.5, 1]).all()
    assert group["image"].shape == (3, *SHAPE)
    assert (group["image"][2] == 2).all()


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
from ndshare._sinks import Look, new_sink
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
    form, rounds = {"ome.tif": "tiff"}.get(ending, ending), 12
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


def test_the_death_of_the_last_writer_ends_it(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    writer = ring.writer()
    recording = nds.record(ring, tmp_path / "run.npy")
    command = [sys.executable, "-c", WRITER, str(reference := nds.ref(writer))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        del reference, writer
        process.kill()
    with pytest.raises(nds.RecordError, match=r"the last writer of the ring died .*; 3 frames are whole"):
        recording.wait(HANG)
    assert numbers_of(recording.path) == [0, 1, 2]


# ---- full disks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Make a disk of 256 KiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=256k") != 0:
        pytest.skip(f"no disk can be made here: {os.strerror(ctypes.get_errno())}")
    yield folder
    assert libc.umount2(os.fsencode(folder), 2) == 0


@pytest.mark.parametrize("ending", FORMATS)
def test_on_a_full_disk_what_is_whole_is_readable(ending: str, small_disk: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, small_disk / f"run.{ending}", sidecar="npy")
    number = write_until(ring, lambda: not alive(recording.pid))
    with pytest.raises(nds.RecordError, match=r"No space left on device; \d+ frames are whole") as caught:
        recording.wait(HANG)
    recorded = numbers_of(recording.path)
    assert recorded == list(range(caught.value.frames))
    assert 10 < len(recorded) < number


def test_what_a_small_disk_has_no_room_for_is_not_set_aside(small_disk: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    recording = nds.record(ring, small_disk / "run.npy", frames=10**6)
    write_until(ring, lambda: not alive(recording.pid))
    with pytest.raises(nds.RecordError, match="No space left on device") as caught:
        recording.wait(HANG)
    assert numbers_of(recording.path) == list(range(caught.value.frames))
    assert caught.value.frames > 10


def test_where_room_is_set_aside_the_file_is_not_longer_by_it(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    with nds.record(ring, tmp_path / "run.npy", frames=10_000) as recording:
        ring.put(image(0))
        assert wait_until(lambda: recording.stats()["frames"] == 1, HANG)
        assert recording.path.stat().st_size == 4096 + 768
    assert recording.path.stat().st_blocks * 512 <= 16384


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


def test_frames_that_look_otherwise_end_it(tmp_path: Path) -> None:
    ring = nds.Ring(slots=8)
    recording = nds.record(ring, tmp_path / "run.npy")
    ring.put(image(0))
    ring.put(image(1)[:8])
    with pytest.raises(nds.RecordError, match=r"as the first one, got frame 1 of \(8, 24\) uint16; 1 frames are whole"):
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
    for number, overwrite in ((0, False), (1, True)):
        with nds.record(ring, tmp_path / "run.raw", overwrite=overwrite):
            ring.put(image(number))
        assert numbers_of(tmp_path / "run.raw") == [number]
    with pytest.raises(FileExistsError, match=r"got run\.raw there: choose another name, or pass overwrite=True"):
        nds.record(ring, tmp_path / "run.raw")
    (tmp_path / "mine.zarr").mkdir()
    pytest.importorskip("zarr")
    with pytest.raises(FileExistsError, match="got a folder of something else"):
        nds.record(ring, tmp_path / "mine.zarr", overwrite=True)
    assert ring.stats()["readers"] == []


def test_a_bad_call_says_what_was_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    with pytest.raises(ValueError, match=r"ends in \.npy, \.raw, \.tif or \.zarr, got .*run\.mp4"):
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


@pytest.mark.usefixtures("runtime")
def test_the_command_says_what_was_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ndshare", "record", "nobody", str(tmp_path / "run.npy")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 1
    assert done.stderr.startswith("ndshare: ")
    assert "nobody" in done.stderr
