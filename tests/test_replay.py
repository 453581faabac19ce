"""Replays: what was recorded comes back into a ring, with its meta and at its pace."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, alive, wait_until
from ndshare._sinks import Look, format_of, new_sink
from ndshare._sources import open_source
from test_record import FIELDS, META, PACKAGES, SHAPE, image, under_way, write
from test_strangers import runtime  # noqa: F401  (a registry of names for each test)


def recorded(path: Path, frames: int = 6, pause_ns: int = 1_000_000, sidecar: str = "npy") -> Path:
    """Write a recording of frames, each full of its number, so many nanoseconds apart; every other has a note."""
    ring = nds.Ring(SHAPE, np.uint16, slots=8, meta=META)
    reader = ring.reader()
    for number in range(frames):
        said = {"gain": number / 2, "name": "cell", "place": [number, -1], "time_ns": 10**9 + number * pause_ns}
        ring.put(image(number), note=None if number % 2 else {"number": number}, **said)
    return write(path, ring, [reader.get(timeout=0) for _ in range(frames)], sidecar)


def plain(meta: Any) -> tuple[float, bytes, list[int]]:
    return float(meta["gain"]), meta["name"], meta["place"].tolist()


@pytest.mark.parametrize(
    ("ending", "sidecar"), [("npy", "parquet"), ("raw", "csv"), ("zarr", "npy"), ("ome.tif", "npy")], ids=str
)
def test_every_frame_comes_back_with_its_meta_and_note(ending: str, sidecar: str, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[ending])
    if sidecar == "parquet":
        pytest.importorskip("pyarrow")
    path = recorded(tmp_path / f"run.{ending}", sidecar=sidecar)
    with nds.replay(path, speed=None) as replay:
        frames = list(replay.ring.reader())
    assert replay.stats() == {"frames": 6, "of": 6}
    assert all((frame == image(number)).all() for number, frame in enumerate(frames))
    assert len(frames) == 6
    assert [frame.note for frame in frames] == [{"number": 0}, None, {"number": 2}, None, {"number": 4}, None]
    assert frames[0].meta.dtype == META
    assert plain(frames[3].meta) == (1.5, b"cell", [3, -1])


PARTS = np.dtype(
    [("gains", "f4", (2, 2)), ("o", [("a", "i4"), ("b", "f4")]), ("z", "c8"), ("seq", "u2"), ("ok", "?"), ("v", "V3")]
)


@pytest.mark.parametrize("sidecar", ["csv", "parquet"])
def test_columns_of_arrays_and_structures_are_put_together_again(sidecar: str, tmp_path: Path) -> None:
    """They came back from CSV as zeros, and nothing was said."""
    if sidecar == "parquet":
        pytest.importorskip("pyarrow")
    ring = nds.Ring(SHAPE, np.uint16, slots=8, meta=PARTS)
    reader, said = ring.reader(), ([[1, 2], [3, 4.5]], (5, 0.5), 1 + 2j, 7, True, b"ab1")
    for _ in range(2):
        ring.put(image(0), meta=dict(zip(PARTS.names or (), said, strict=True)))
    path = write(tmp_path / "run.npy", ring, [reader.get(timeout=0) for _ in range(2)], sidecar)
    with nds.replay(path, mine := nds.Ring(SHAPE, np.uint16, slots=8, meta=PARTS), speed=None) as replay:
        replay.wait(HANG)
    meta = mine.reader(start="oldest").get(timeout=0).meta
    assert [*map(str, meta.item()[1:-1])] == ["(5, 0.5)", "(1+2j)", "7", "True"]
    assert (meta.gains.tolist(), bytes(meta.v)) == (said[0], b"ab1")
    guessed = open_source(path).meta
    assert guessed is not None
    assert (guessed["gains"].tolist(), guessed["o"].tolist()) == ([said[0]] * 2, [said[1]] * 2)
    assert guessed["seq"].tolist() == [7, 7]
    with pytest.raises(nds.RecordError, match=r"the field 'o' with \['o\.a', 'o\.b'\], got \['o\.a', 'o\.c'\]"):
        nds.replay(path, nds.Ring(SHAPE, np.uint16, slots=2, meta=[("o", [("a", "i4"), ("c", "f4")])]), speed=None)


def test_items_with_fields_come_back(tmp_path: Path) -> None:
    """Also a tree in a ring of any frames, whose levels are fields of fields."""
    pytest.importorskip("zarr")
    ring = nds.Ring(slots=8)
    with nds.record(ring, tmp_path / "run.zarr") as recording:
        ring.put({"image": image(7), "tracks": (np.ones((5, 2)), np.arange(3, dtype=">i4"))})
    frames = ring.reader(start="oldest")
    frame = frames.get(timeout=0)
    with nds.replay(recording.path) as replay:
        (got,) = replay.ring.reader()
    assert (got.dtype, got.shape) == (frame.dtype, ())
    assert isinstance(got.tree()["tracks"], tuple)
    assert got.tree()["tracks"][1].tolist() == [0, 1, 2]
    items = np.zeros((2,), FIELDS)
    items["t"] = [0.5, 1.5]
    for ending, look in [
        (ending, look) for ending in ("npy", "raw", "zarr") for look in (frame.view(np.ndarray), items)
    ]:
        sink = new_sink(ending, path := tmp_path / f"{look.ndim}.{ending}", Look(look.shape, look.dtype, None))
        sink.write([look, look])
        sink.close()
        source = open_source(path)
        assert (source.frames, source.shape, source.dtype) == (2, look.shape, look.dtype)
        assert source.get(1).tobytes() == look.tobytes()


def test_groups_of_others_are_frames_with_fields(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=r"expected an array, or a group with arrays, in .*, got neither"):
        open_source(tmp_path / "a.zarr")
    group.create_array("t", data=np.arange(4.0))
    group.create_group("empty")
    group.create_array("left/image", data=np.arange(24, dtype="u2").reshape(4, 3, 2))
    source = open_source(tmp_path / "a.zarr")
    assert (source.frames, source.shape, source.dtype.names) == (4, (), ("left", "t"))
    assert source.get(2)["left"]["image"].tolist() == [[12, 13], [14, 15], [16, 17]]
    assert source.get(3)["t"] == 3


def test_frames_come_no_sooner_than_they_did(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.npy", frames=4, pause_ns=50_000_000)
    for speed in (1.0, 2.0):
        begun = time.monotonic_ns()
        with nds.replay(path, speed=speed) as replay:
            frames = list(replay.ring.reader())
        # From before the first frame: who is late with that makes the rest no later.
        for number, frame in enumerate(frames):
            assert frame.published_ns - begun >= number * 50e6 / speed


def test_frames_have_their_recorded_times_and_numbers(tmp_path: Path) -> None:
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    ring.put(image(0), time_ns=0)  # which is not recorded
    one, other = ring.writer(), ring.writer()
    reader = ring.reader()
    for writer, time_ns in ((one, 1 << 61), (one, (1 << 61) + 7), (other, 50), (one, 1 << 62)):
        writer.put(image(0), time_ns=time_ns)
    path = write(tmp_path / "run.npy", ring, [reader.get(timeout=0) for _ in range(4)])
    # Two writers' times may cross; those of the replay's one do not go back.
    expected = [1 << 61, (1 << 61) + 7, (1 << 61) + 7, 1 << 62]
    mine = nds.Ring(SHAPE, np.uint16, slots=8, meta=[("source_seq", "i8"), ("source_time_ns", "i8")])
    with nds.replay(path, mine, speed=None, readers=1) as replay:
        again = list(replay.ring.reader())
    assert [frame.time_ns for frame in again] == expected
    assert [frame.meta.source_seq for frame in again] == [1, 2, 3, 4]
    assert [frame.meta.source_time_ns for frame in again] == [1 << 61, (1 << 61) + 7, 50, 1 << 62]


def test_a_loop_goes_on_until_it_is_stopped_in_a_ring_of_ours(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.npy")
    times = np.load(f"{path}.times.npy")["time_ns"].tolist()
    ring = nds.Ring(SHAPE, np.uint16, slots=4, meta=[("gain", "f8")])
    reader = ring.reader()
    with nds.replay(path, ring, speed=None, loop=True) as replay:
        frames = [reader.get(timeout=HANG) for _ in range(15)]
        assert wait_until(lambda: replay.stats()["frames"] >= 15, HANG)
        with pytest.raises(nds.Timeout):
            replay.wait(0)
    assert [int(frame[0, 0]) for frame in frames] == [number % 6 for number in range(15)]
    assert [frame.meta["gain"] for frame in frames[:3]] == [0, 0.5, 1]
    span = times[-1] - times[0]
    length = span + span // 5
    assert [frame.time_ns for frame in frames] == [times[n % 6] + n // 6 * length for n in range(15)]
    # It was the only writer, so the stream has ended.
    assert len(list(reader)) <= 4 + 1


def test_a_replay_that_is_always_late_stops_too(tmp_path: Path) -> None:
    """The only frame of a loop is always due, and a ring that drops frames always has room."""
    path = recorded(tmp_path / "run.npy", frames=1)
    ring = nds.Ring(SHAPE, np.uint16, slots=4, when_full="drop_oldest", meta=[("gain", "f8")])
    replay = nds.replay(path, ring, speed=1.0, loop=True)
    try:
        assert wait_until(lambda: replay.stats()["frames"] >= 15, HANG)
        replay.stop(timeout=10)
    finally:
        if alive(replay.pid):
            os.kill(replay.pid, signal.SIGKILL)


def test_it_waits_for_readers_and_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.npy")
    replay = nds.replay(path, speed=None)
    assert not wait_until(lambda: replay.stats()["frames"] > 0, 0.2)
    assert len(list(replay.ring.reader())) == 6
    assert replay.wait(HANG) == {"frames": 6, "of": 6}
    command = (
        "import sys, time, ndshare as nds; r = nds.replay(sys.argv[1]); print(r.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", command, path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        replayer = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: not alive(replayer), HANG)


def test_its_death_is_an_error_and_its_readers_hear_of_it(tmp_path: Path) -> None:
    replay = nds.replay(recorded(tmp_path / "run.npy"), speed=0.001)
    reader = replay.ring.reader()
    reader.get(timeout=HANG)
    os.kill(replay.pid, signal.SIGKILL)
    with pytest.raises(nds.WriterDied):
        reader.get(timeout=HANG)
    with pytest.raises(nds.RecordError, match=r"replay of .* ended: process .* was killed by SIGKILL"):
        replay.wait(HANG)


def test_what_a_killed_recording_left_is_replayed(tmp_path: Path) -> None:
    _ring, recording = under_way(tmp_path / "run.raw", 5)
    os.kill(recording.pid, signal.SIGKILL)
    with pytest.raises(nds.RecordError):
        recording.wait(HANG)
    with (tmp_path / "run.raw").open("ab") as file:
        file.write(b"half a frame")
    with nds.replay(recording.path, speed=None) as replay:
        assert [int(frame[0, 0]) for frame in replay.ring.reader()] == list(range(5))


def test_files_of_others_are_replayed_without_times(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(24, dtype="f4").reshape(4, 3, 2))
    with pytest.raises(ValueError, match=r"expected a table of times beside .*a\.npy, got none: pass speed=None"):
        nds.replay(tmp_path / "a.npy")
    with nds.replay(tmp_path / "a.npy", speed=None) as replay:
        assert np.stack(list(replay.ring.reader())).tolist() == np.load(tmp_path / "a.npy").tolist()
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.arange(24, dtype="u2").reshape(4, 3, 2), photometric="minisblack")
    source = open_source(tmp_path / "a.tif")
    assert [source.get(n).tolist() for n in range(source.frames)] == tifffile.imread(tmp_path / "a.tif").tolist()


def test_a_bad_call_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a recording .*run\.npy, got nothing there"):
        nds.replay(tmp_path / "run.npy")
    (tmp_path / "run.raw").write_bytes(b"1234")
    with pytest.raises(FileNotFoundError, match=r"expected run\.raw\.json beside .*, which says shape and dtype"):
        nds.replay(tmp_path / "run.raw")
    np.save(tmp_path / "objects.npy", np.array([{}, None]))
    with pytest.raises(ValueError, match=r"one that can't be mapped .*: save it as such, as by np\.save"):
        nds.replay(tmp_path / "objects.npy")
    np.save(tmp_path / "run.npy", np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"expected a speed above 0, or None .*, got 0"):
        nds.replay(tmp_path / "run.npy", speed=0)


def with_files(path: Path, frames: int = 3) -> Path:
    """Write frames, each full of its number, a table of times and notes, all in this process."""
    sink = new_sink(format_of(path), path, Look(SHAPE, np.dtype("<u2"), None))
    sink.write([image(number) for number in range(frames)])
    sink.close()
    rows = "".join(f"{number},{number},\n" for number in range(frames))
    path.with_name(f"{path.name}.times.csv").write_text(f"seq,time_ns,utc\n{rows}")
    return path


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"shape": [1, 1]}, r"expected frame_bytes 2, as of \(1, 1\) uint16, in .*, got \d\d+: mend"),
        ({"dtype": "<u8"}, r"expected frame_bytes \d+, as of .* uint64, in"),
        ({"frame_bytes": 0}, r"expected frame_bytes \d+, .* got 0: mend"),
        ({"frame_bytes": -8}, r"expected frame_bytes \d+, .* got -8: mend"),
        ({"shape": [-1]}, r"expected a shape that is a list of integers from 0 on in .*, got \[-1\]"),
        ({"shape": "ab"}, r"expected a shape .*, got 'ab'"),
        ({"frames": -1}, r"expected frames that are an integer from 0 on, or null, in .*, got -1"),
        ({"frames": "x"}, r"expected frames .*, got 'x'"),
        ({"dtype": "|O"}, r"expected a dtype without Python objects in .*, got '\|O'"),
        ({"dtype": 5}, r"expected the description of a recording in .*, got what cannot be read \(TypeError"),
        ([], r"expected the format 'ndshare raw 1' in .*, got \[\]"),
    ],
)
def test_a_description_that_does_not_fit_is_told(facts: Any, told: str, tmp_path: Path) -> None:
    """Not frames of another shape, or of zeros."""
    path = with_files(tmp_path / "run.raw")
    assert (open_source(path).get(2) == image(2)).all()
    beside = tmp_path / "run.raw.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **facts} if facts else facts))
    with pytest.raises(ValueError, match=told) as caught:
        nds.replay(path)
    assert str(beside) in str(caught.value)
    beside.unlink()
    with pytest.raises(FileNotFoundError, match=r"expected run\.raw\.json beside .*, got nothing there"):
        nds.replay(path)


@pytest.mark.parametrize("name", ["run.npy", "run.raw", "run.tif", "run.zarr", "run.raw.json", "folder.npy"])
def test_only_a_file_is_opened(name: str, tmp_path: Path) -> None:
    """A FIFO would wait for somebody who writes."""
    pytest.importorskip(PACKAGES.get("ome.tif" if name.endswith(".tif") else name.rpartition(".")[2], "numpy"))
    made = tmp_path / name
    if name == "folder.npy":
        made.mkdir()
    else:
        os.mkfifo(made)
    if name == "run.raw.json":
        (tmp_path / "run.raw").touch()
    got = "a folder" if name == "folder.npy" else "a FIFO or device"
    with pytest.raises(ValueError, match=rf"expected a file .*{name}, got {got}: give the path"):
        nds.replay(tmp_path / name.removesuffix(".json"), speed=None)


CSV = "run.npy.times.csv"


@pytest.mark.parametrize(
    ("damaged", "text", "why"),
    [
        ("run.npy", "", "EOFError: No data left"),
        ("run.npy", "junk" * 99, "pickled"),
        (CSV, "", "ValueError: not enough values"),
        (CSV, "a,b\n1,2\n", "KeyError: 'seq'"),
        (CSV, f"seq,time_ns,utc\n0,{1 << 64},\n", "OverflowError"),
        (CSV, "seq,time_ns,utc\n0,7.5,\n", "ValueError: invalid literal"),
        (CSV, f"seq,time_ns,utc\n{10**21},7,\n", "OverflowError"),
        (CSV, "seq,time_ns,utc\n0,7,\n1,-5,\n", "expected a time_ns from 0 to .*, got -5 in row 1: mend it"),
        ("run.tif", "II*\0", "struct.error|error: unpack"),
        ("run.tif", "II*\0\x60\0\0\0", "IndexError"),
    ],
)
def test_what_is_damaged_is_a_value_error_with_its_path(damaged: str, text: str, why: str, tmp_path: Path) -> None:
    """Whatever NumPy, csv or tifffile raises."""
    ending = damaged.split(".")[1]
    if ending == "tif":
        pytest.importorskip("tifffile")
    else:
        with_files(tmp_path / "run.npy")
    (tmp_path / damaged).write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        nds.replay(tmp_path / f"run.{ending}", speed=None)
    assert str(tmp_path / damaged) in str(caught.value)


def test_a_raw_file_has_as_many_frames_as_its_description_says(tmp_path: Path) -> None:
    """One that was cut played what was left, and nobody was told."""
    path = with_files(tmp_path / "run.raw", frames=3)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"expected 3 frames in .*run\.raw, as run\.raw\.json says, got 2 whole ones"):
        open_source(path)
    description = tmp_path / "run.raw.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "frames": 2}))
    source = open_source(path)
    assert source.frames == 2
    source.close()


@pytest.mark.parametrize("frames", [3, 2**60])
def test_frames_of_no_bytes_are_counted_by_their_table(frames: int, tmp_path: Path) -> None:
    """A description that merely said so many was replayed for years."""
    path = tmp_path / "run.raw"
    path.touch()
    facts = {"format": "ndshare raw 1", "shape": [4, 0], "dtype": "<u2", "frame_bytes": 0, "frames": frames}
    (tmp_path / "run.raw.json").write_text(json.dumps(facts))
    with pytest.raises(
        ValueError, match=rf"expected a table beside .*run\.raw, .* and {frames} of them are merely said"
    ):
        nds.replay(path, speed=None)
    (tmp_path / "run.raw.json").write_text(json.dumps({**facts, "frames": 0}))
    assert open_source(path).frames == 0
    np.save(tmp_path / "run.npy", np.zeros((frames if frames < 9 else 9, 0)))
    with pytest.raises(ValueError, match="leave nothing in a file"):
        open_source(tmp_path / "run.npy")


def test_a_cut_tiff_has_the_frames_before_the_cut(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(path := tmp_path / "run.tif") as file:
        file.write(np.stack([np.full((300, 300), number, "u2") for number in range(5)]), photometric="minisblack")
    os.truncate(path, os.path.getsize(path) // 2)
    source = open_source(path)
    assert (source.get(0) == 0).all()
    with pytest.raises(ValueError, match=r"expected frame 4 in .*run\.tif, got what cannot be read"):
        source.get(4)
    source.close()


def test_who_asks_for_a_replay_does_not_keep_its_tiff_open(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path := tmp_path / "run.tif", np.zeros((4, 3, 2), "u2"), photometric="minisblack")
    gc.disable()
    try:
        source = open_source(path)
        assert path.resolve() in open_files()
        source.close()
        assert path.resolve() not in open_files()
        with pytest.raises(ValueError, match="expected a table of times"):
            nds.replay(path)
        assert path.resolve() not in open_files()
    finally:
        gc.enable()


def open_files() -> list[Path]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [link.readlink() for link in links if link.is_symlink()]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (r'"\ud800"', "\ud800"),
        (r'{"name": "\ud800é"}', {"name": "\ud800é"}),
        ("[1e400, -Infinity]", [float("inf"), -float("inf")]),
        ('"é"', "é"),
        ("null", None),
    ],
)
def test_a_note_of_another_program_comes_back_as_it_was(line: str, note: Any, tmp_path: Path) -> None:
    """JSON has what UTF-8 has not, and Python's has infinity."""
    path = with_files(tmp_path / "run.npy")
    (tmp_path / "run.npy.notes.jsonl").write_text(f'{{"frame": 1, "note": {line}}}\n')
    ring, source = nds.Ring(SHAPE, np.uint16, slots=4), open_source(path)
    reader = ring.reader()
    for number in range(3):
        ring.put(source.get(number), note=source.note(number))
    assert [frame.note for frame in (reader.get(timeout=0) for _ in range(3))] == [None, note, None]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1]", "expected a line of JSON"),
        ('{"frame": 1e400, "note": 1}', "expected a line of JSON"),
        (f'{{"frame": 0, "note": {"[" * 200_000}{"]" * 200_000}}}', "RecursionError"),
        ('{"frame": 0, "base64": 5}', "expected a line of JSON"),
    ],
    ids=["list", "infinite", "deep", "base64"],
)
def test_notes_that_are_none_are_told_with_their_path(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "run.npy.notes.jsonl").write_text(line + "\n")
    source = open_source(with_files(tmp_path / "run.npy"))
    with pytest.raises(ValueError, match=r"expected .*run\.npy\.notes\.jsonl.* take the file away") as caught:
        source.note(0)
    assert why in str(caught.value)


def test_the_process_says_what_ended_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.npy.notes.jsonl").write_text("[1]\n")
    replay = nds.replay(with_files(tmp_path / "run.npy"), nds.Ring(SHAPE, "u2", slots=4), speed=None)
    with pytest.raises(
        nds.RecordError, match=r"ended: expected a line of JSON .*run\.npy\.notes\.jsonl.*take the file away"
    ):
        replay.wait(HANG)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("runtime")
def test_the_command_replays_into_a_published_ring(tmp_path: Path) -> None:
    path = recorded(tmp_path / "run.npy")
    command = [sys.executable, "-m", "ndshare", "replay", str(path), "--ring", "again", "--speed", "1000", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # It waits for a reader, whatever its speed.
        frames = [int(frame[0, 0]) for frame in nds.attach("again", timeout=HANG).reader()]
        out, err = process.communicate(timeout=HANG)
    assert (process.returncode, json.loads(out)) == (0, {"frames": 6, "of": 6})
    assert err == f"ndshare: 6 frames of {path} in ring 'again'\n"
    assert frames == list(range(6))
    assert "again" not in nds.names()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("place", ["--session", "--arena"])
def test_the_commands_work_in_a_session_and_in_an_arena(place: str, tmp_path: Path) -> None:
    path, where = recorded(tmp_path / "run.npy"), str(tmp_path / "a.nds") if place == "--arena" else "lab"
    with contextlib.ExitStack() as stack:
        if place == "--arena":
            stack.enter_context(nds.Arena("64 MiB", path=where))
        replay = ["replay", str(path), "--ring", "camera", place, where, "--fast", "--json"]
        record = ["record", "camera", str(tmp_path / "again.npy"), place, where, "--before", "6", "--frames", "6"]
        first, second = stack.enter_context(command(replay)), stack.enter_context(command([*record, "--wait", "60"]))
        out, err = second.communicate(timeout=HANG)
        assert (second.returncode, err) == (0, f"ndshare: 6 frames in {tmp_path / 'again.npy'}, 0 lost, 0.000 GB\n")
        out, err = first.communicate(timeout=HANG)
        assert (first.returncode, json.loads(out)) == (0, {"frames": 6, "of": 6})
    again = np.load(tmp_path / "again.npy")
    assert again[:, 0, 0].tolist() == list(range(6))
    assert (tmp_path / "again.npy.notes.jsonl").read_bytes() == (tmp_path / "run.npy.notes.jsonl").read_bytes()


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("place", "told"),
    [
        (["--session", "lab"], "expected a ring 'camera' in a session 'lab', got none: see ndshare ls"),
        (["--arena", "none.nds"], "expected the file of an arena, got nothing at none.nds: see ndshare ls"),
    ],
)
def test_the_command_says_where_there_is_no_ring(place: list[str], told: str, tmp_path: Path) -> None:
    with command(["record", "camera", str(tmp_path / "run.npy"), *place]) as process:
        assert process.communicate(timeout=HANG)[1] == f"ndshare: {told}\n"
    assert process.returncode == 1


def command(words: list[str]) -> subprocess.Popen[str]:
    """Start the command ``ndshare``."""
    line = [sys.executable, "-m", "ndshare", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
