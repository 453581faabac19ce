"""Frames of several arrays, trees, and notes: what is put is what arrives, or an error that names the field."""

from __future__ import annotations

import gc
import io
import json
import multiprocessing as mp
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import weakref
from dataclasses import InitVar, dataclass, make_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import ndshare as nds
import ring_workers
from helpers import HANG

FIELDS: dict[str, Any] = {"rgb": ((4, 6, 3), "u1"), "depth": ((4, 6), "u2")}
NESTED: dict[str, Any] = {"cam": FIELDS, "pair": ((3, "f4"), ((2, 2), "i8")), "time": ((), "f8")}


@dataclass
class View:
    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]


@dataclass
class ViewWithMore(View):
    """What is no field of an instance is none of a frame either."""

    channels: ClassVar[int] = 3
    scale: InitVar[float] = 1.0


@dataclass
class Scene:
    cam: View
    pair: tuple[NDArray[np.float32], NDArray[np.int64]]
    time: NDArray[np.float64]


class ViewDict(TypedDict):
    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]


def view(seed: int) -> dict[str, Any]:
    dice = np.random.default_rng(seed)
    return {"rgb": dice.integers(0, 256, (4, 6, 3), "u1"), "depth": dice.integers(0, 999, (4, 6), "u2")}


def scene(seed: int) -> dict[str, Any]:
    dice = np.random.default_rng(seed)
    pair = (dice.random(3, "f4"), dice.integers(0, 99, (2, 2), "i8"))
    return {"cam": view(seed), "pair": pair, "time": np.float64(seed)}


def check_same(got: Any, put: Any) -> None:
    """Compare trees by structure, dtypes and items."""
    if isinstance(put, dict):
        assert type(got) is dict
        assert list(got) == list(put)
        for name in put:
            check_same(got[name], put[name])
    elif isinstance(put, tuple):
        assert type(got) is tuple
        assert len(got) == len(put)
        for one, other in zip(got, put, strict=True):
            check_same(one, other)
    else:
        wanted = np.asarray(put)
        assert isinstance(got, np.ndarray)
        assert (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


# ---- rings that are made with fields --------------------------------------------------------------------------------


def test_a_frame_of_several_arrays_is_written_and_read_by_name() -> None:
    ring = nds.Ring(fields=FIELDS, slots=4, meta=[("stage", "i4")])
    frames = ring.reader()
    with ring.write() as frame:
        frame["rgb"][...] = 7
        frame.depth[...] = 8
        frame.depth += 1
        frame["depth"] += 1
        frame.meta["stage"] = 3
    got = frames.get(timeout=5)
    assert (got["rgb"].shape, got.rgb.dtype, int(got.rgb.min()), int(got.depth.max())) == ((4, 6, 3), "u1", 7, 10)
    assert (got.seq, got.rgb.seq, got.meta["stage"], got.depth.meta["stage"]) == (0, 0, 3, 3)
    assert got.rgb.ctypes.data % 64 == got.depth.ctypes.data % 64 == 0
    assert got.rgb.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        got.rgb[...] = 0
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = got.other
    assert (ring.shape, ring.dtype.names) == ((), ("rgb", "depth"))
    kept = got.rgb
    del got, frame
    for seed in range(20):
        ring.put(view(seed))
        frames.get(timeout=5)
    assert int(kept.min()) == int(kept.max()) == 7, "its block was written again"


@pytest.mark.parametrize("fields", [FIELDS, NESTED, (((3,), "u1"), {"a": ((), "f4")}), [(2, "S5"), (3, "M8[ns]")]])
def test_the_head_of_a_ring_says_its_fields(fields: Any) -> None:
    ring = nds.Ring(fields=fields, slots=4)
    again = nds.ref(str(nds.ref(ring))).open()
    assert isinstance(again, nds.Ring)
    assert (again.dtype, again.shape) == (ring.dtype, ())
    named = nds.Ring(fields=fields, slots=4, name="by-fields")
    assert nds.Ring(fields=fields, slots=4, name="by-fields").dtype == named.dtype
    with pytest.raises(ValueError, match="by-fields"):
        nds.Ring(fields={"other": (3, "u1")}, slots=4, name="by-fields")


def test_what_is_put_may_be_a_mapping_a_dataclass_or_an_item_with_fields() -> None:
    ring = nds.Ring(fields=NESTED, slots=8)
    frames = ring.reader()
    wanted = scene(1)
    made = Scene(View(**wanted["cam"]), wanted["pair"], wanted["time"])
    item = np.zeros((), ring.dtype)
    for name in FIELDS:
        item["cam"][name] = wanted["cam"][name]
    for place in range(2):
        item["pair"][str(place)] = wanted["pair"][place]
    item["time"] = wanted["time"]
    as_lists = {**wanted, "pair": list(wanted["pair"]), "time": 1}
    mapping = {**wanted, "cam": np.array(item["cam"])[()]}
    for put in (wanted, made, item, item[()], as_lists, mapping):
        ring.put(put)
        check_same(frames.get(timeout=5).tree(), wanted)
    got = ring.put(wanted), frames.get(timeout=5)
    told = got[1].tree(Scene)
    assert isinstance(told, Scene)
    assert isinstance(told.cam, View)
    assert told.pair[1].shape == (2, 2)
    assert type(got[1]["cam"].tree(ViewDict)) is dict
    assert type(got[1]["cam"].tree(ViewWithMore)) is ViewWithMore
    with pytest.raises(TypeError, match="with the fields cam, pair, time, got View with rgb, depth"):
        got[1].tree(View)
    with pytest.raises(TypeError, match=r"expected fields for View, got an array of shape \(4, 6, 3\) of uint8"):
        got[1]["cam"]["rgb"].tree(View)
    with pytest.raises(TypeError, match="expected a dataclass or a TypedDict to take the fields, got 3"):
        got[1].tree(cast("Any", 3))


def test_what_comes_out_is_a_view_of_the_frame() -> None:
    ring = nds.Ring(fields=NESTED, slots=4, meta=[("stage", "i4")])
    frames = ring.reader()
    ring.put(scene(3), stage=7)
    frame = frames.get(timeout=5)
    rgb = frame.tree()["cam"]["rgb"]
    assert (type(rgb), rgb.seq, rgb.meta["stage"], rgb.flags.writeable) == (nds.Frame, 0, 7, False)
    assert rgb.ctypes.data == frame["cam"]["rgb"].ctypes.data
    assert rgb.flags.c_contiguous
    assert nds.is_shared(rgb)
    del frame
    for seed in range(20):
        ring.put(scene(seed))
        frames.get(timeout=5)
    assert rgb.tolist() == scene(3)["cam"]["rgb"].tolist(), "its block was written again"
    with ring.write() as frame:
        frame.tree()["cam"]["rgb"][...] = 9
        copy = np.zeros((2,), ring.dtype).view(nds.Frame)
    assert int(frames.get(timeout=5).cam.rgb.min()) == 9
    assert copy.tree() is copy
    mine = copy[0:1].reshape(())
    mine.tree()["time"][...] = 4
    assert float(copy["time"][0]) == 4


def test_a_class_that_is_gone_is_no_other() -> None:
    """Plans know classes by where they are, and keep none; a later one may be in the same place."""
    ring = nds.Ring(fields=FIELDS, slots=4)
    frames = ring.reader()
    ring.put(view(1))
    frame = frames.get(timeout=5)

    def some_class() -> Any:
        return make_dataclass("Some", [("depth", Any), ("rgb", Any)])

    kinds = weakref.WeakSet[Any]()
    for _ in range(5):
        kind = some_class()
        kinds.add(kind)
        made = frame.tree(kind)
        assert type(made) is kind
        assert made.depth.tolist() == view(1)["depth"].tolist()
        del kind, made
        gc.collect()
    assert len(kinds) <= 1


@dataclass
class Pairs:
    both: tuple[View, ViewDict]
    many: tuple[View, ...]
    plain: tuple[Any, Any]


def test_classes_in_tuples_are_made_too() -> None:
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    views = [view(seed) for seed in range(3)]
    ring.put({"both": (views[0], views[1]), "many": (views[1], views[2]), "plain": (views[0], np.zeros(2))})
    got = frames.get(timeout=5).tree(Pairs)
    assert [type(part) for part in (*got.both, *got.many, *got.plain)] == [View, dict, View, View, dict, nds.Frame]
    assert got.many[1].rgb.tolist() == views[2]["rgb"].tolist()


BAD: list[tuple[Any, type[Exception], str]] = [
    ({"rgb": 0}, TypeError, "expected the fields rgb, depth, got them without depth"),
    ({**view(0), "more": 0}, TypeError, "with 'more'"),
    ({"rgb": view(0)["rgb"], "dept": 0}, TypeError, "without depth and with 'dept'"),
    ({**view(0), "rgb": np.zeros((4, 6), "u1")}, ValueError, r'field "rgb": expected .* \(4, 6, 3\), got .* \(4, 6\)'),
    ({**view(0), "depth": np.zeros((4, 6))}, TypeError, 'field "depth": expected .* casts to uint16 .* got float64'),
    ({**view(0), "depth": [[70000] * 6] * 4}, OverflowError, 'field "depth": expected numbers that fit uint16'),
    ({**view(0), "depth": [object()]}, (TypeError, ValueError), "depth"),
    (np.zeros((4, 6)), TypeError, "expected a mapping, a dataclass or an item with the fields rgb, depth, got ndarray"),
    ((1, 2), TypeError, "got tuple"),
    (3, TypeError, "got int"),
]


@pytest.mark.parametrize(("put", "error", "says"), BAD)
def test_what_does_not_fit_names_its_field_and_publishes_nothing(put: Any, error: Any, says: str) -> None:
    ring = nds.Ring(fields=FIELDS, slots=4)
    with pytest.raises(error, match=says):
        ring.put(put)
    with pytest.raises(error, match=says.replace('"', "").replace("rgb", "").split(":")[0][:5]):
        ring.writer().put(put)
    assert ring.stats()["written"] == 0


SPECS: list[tuple[Any, type[Exception], str]] = [
    ({}, ValueError, "at least one array"),
    ({"a": {}}, ValueError, "field 'a': expected at least one array"),
    ({"0": (3, "u1")}, ValueError, "places of a tuple"),
    ({3: (3, "u1")}, TypeError, "names of fields to be str"),
    ({"a": (3, "O")}, TypeError, "field 'a': expected a dtype of plain bytes"),
    ({"a": (-1, "u1")}, ValueError, "field 'a': expected lengths of 0 or more"),
    ({"a": (3, "no")}, TypeError, "field 'a'"),
    ({"a": 3}, TypeError, r"field 'a': expected \(shape, dtype\)"),
    ({"a": ((1 << 20, 1 << 12), "u1")}, ValueError, "field 'a': expected an array of less than 2 GiB"),
    ({"a": (1 << 30, "u1"), "b": (1 << 30, "u1")}, ValueError, "less than 2 GiB"),
    (3, TypeError, "expected fields as"),
]


@pytest.mark.parametrize(("fields", "error", "says"), SPECS)
def test_fields_that_cannot_be_are_named(fields: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        nds.Ring(fields=fields, slots=4)


def test_fields_or_a_shape() -> None:
    with pytest.raises(TypeError, match="fields=, or shape and dtype, got both"):
        nds.Ring((3,), slots=4, fields=FIELDS)  # type: ignore[call-overload]  # pyright: ignore


def test_a_field_may_have_the_name_of_an_attribute() -> None:
    ring = nds.Ring(fields={"shape": (3, "u1"), "seq": (2, "u1"), "meta": ((), "f4")}, slots=4)
    frames = ring.reader()
    ring.put({"shape": [1, 2, 3], "seq": [4, 5], "meta": 0.5})
    got = frames.get(timeout=5)
    assert (got.shape, got.seq, got["shape"].tolist(), got["seq"].tolist(), float(got["meta"])) == (
        (),
        0,
        [1, 2, 3],
        [4, 5],
        0.5,
    )


def test_a_frame_goes_into_another_ring_as_it_is_or_field_by_field() -> None:
    first, same = (nds.Ring(fields=FIELDS, slots=4) for _ in range(2))
    other = nds.Ring(fields=dict(reversed(FIELDS.items())), slots=4)
    readers = [ring.reader() for ring in (first, same, other)]
    first.put(view(1), note="kept")
    got = readers[0].get(timeout=5)
    same.put(got)
    other.put(got)
    there = [reader.get(timeout=5) for reader in readers[1:]]
    assert there[0].rgb.ctypes.data == got.rgb.ctypes.data
    assert there[0].note == "kept"
    check_same(there[1].tree(), dict(reversed(view(1).items())))


# ---- trees in rings that take any frame -----------------------------------------------------------------------------

NUMBERS = ("u1", "<i4", ">u2", "f4", "c16", "M8[s]", "S3", "?", "U2", [("x", "i2"), ("y", ">f8")])
NAMES = (
    "a",
    "b.c",
    "é",
    "\u540d",
    " ",
    "0a",
    "-1",
    "x\ny",
    "\U0001f642",
    "shape",
    "'",
    '"',
    "\\",
    "names",
    "__class__",
    "n" * 60,
)


def any_array(dice: random.Random) -> NDArray[Any]:
    shape = tuple(dice.choice((0, 1, 2, 3, 4)) for _ in range(dice.randrange(4)))
    dtype = np.dtype(dice.choice(NUMBERS))
    array = np.frombuffer(dice.randbytes(int(np.prod(shape)) * dtype.itemsize).replace(b"\xff", b"\0"), dtype)
    if dtype.kind == "U":
        array = np.full(array.shape, "aß", dtype)
    array = array.reshape(shape)
    return array.T if dice.random() < 0.5 else array


def any_tree(dice: random.Random, depth: int = 3) -> Any:
    def inner() -> Any:
        return any_tree(dice, depth - 1) if depth > 1 and dice.random() < 0.4 else any_array(dice)

    if dice.random() < 0.5:
        return {name: inner() for name in dice.sample(NAMES, dice.randint(1, 3))}
    return tuple(inner() for _ in range(dice.randint(1, 3)))


def any_note(dice: random.Random) -> Any:
    length = dice.choice((0, 1, 7, 300, 496, 497, 900))
    text = "".join(dice.choices("aß\u540d\U0001f642\0 ", k=length))
    return dice.choice((None, text, dice.randbytes(length), {text[:4]: [length, True, None, text]}))


@pytest.mark.parametrize("seed", range(8))
def test_any_tree_arrives_as_it_was_put(seed: int) -> None:
    dice = random.Random(seed)
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    for _ in range(15):
        puts = [(any_tree(dice), any_note(dice)) for _ in range(4)]
        for tree, note in puts:
            ring.put(tree, note=note)
        got = [frames.get(timeout=5) for _ in puts]
        for frame, (tree, note) in zip(got, puts, strict=True):
            check_same(frame.tree(), as_it_comes(tree))
            assert frame.note == note
            assert type(frame.note) is type(note)
        again = nds.Ring((), got[0].dtype, slots=2)
        reader = again.reader()
        again.put(puts[0][0])
        check_same(reader.get(timeout=5).tree(), as_it_comes(puts[0][0]))


def as_it_comes(tree: Any) -> Any:
    """Return a tree as it comes out: a record is a level of its own."""
    if isinstance(tree, dict):
        return {name: as_it_comes(part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(map(as_it_comes, tree))
    return {name: tree[name] for name in tree.dtype.names} if tree.dtype.names and not tree.shape else tree


def test_trees_of_many_layouts_in_turn_come_out_as_they_were_put() -> None:
    """More than a ring remembers, put and asked for again and again, as they are and as a class."""
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    for size in [*range(40), *range(40)]:
        put = {"rgb": np.full(size, size, "i4"), "depth": np.ones((2, size), ">f4")}
        ring.put(put)
        got = frames.get(timeout=5)
        check_same(got.tree(), put)
        made = got.tree(View)
        assert (type(made), made.depth.tolist()) == (View, put["depth"].tolist())
        check_same(got.tree(ViewDict), put)


def test_a_tree_in_the_place_of_an_array_is_another_tree() -> None:
    """Two arrays were stacked into one of the shape that the frame before had there, or were an error."""
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    one, two = np.uint8(1), np.uint8(2)
    ring.put((np.zeros(2, np.uint8),))
    ring.put(((np.array(one), np.array(two)),))
    ring.put(((np.array(one), np.zeros(3, np.uint8)),))
    assert frames.get().tree()[0].shape == (2,)
    assert [array.shape for array in frames.get().tree()[0]] == [(), ()]
    assert [array.shape for array in frames.get().tree()[0]] == [(), (3,)]


def test_trees_of_any_size_follow_each_other() -> None:
    ring = nds.Ring(slots=3)
    frames = ring.reader()
    for size in (0, 10, 100_000, 3, 70_000, 1):
        put = {"a": np.full(size, size, "u4"), "many": {f"field{i}": np.full(3, i) for i in range(40)}}
        ring.put(put, note={"size": size})
        got = frames.get(timeout=5)
        check_same(got.tree(), put)
        assert got.note == {"size": size}
    ring.put(np.arange(3))
    assert frames.get(timeout=5).tolist() == [0, 1, 2]


def test_lists_and_tuples_of_numbers_stay_arrays() -> None:
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    for put in ([[1, 2], [3, 4]], (1, 2, 3), [np.zeros(2), np.ones(2)]):
        ring.put(put)
        assert frames.get(timeout=5).dtype.names is None
    ring.put({"a": [1, 2], "b": (1.0, 2.0), "c": (np.zeros(1), 3)})
    tree = frames.get(timeout=5).tree()
    assert tree["a"].tolist() == [1, 2]
    assert tree["b"].tolist() == [1, 2]
    assert type(tree["c"]) is tuple
    ring.put(Scene(View(**view(2)), (np.zeros(3, "f4"), np.ones((2, 2), "i8")), np.float64(3)))
    assert isinstance(frames.get(timeout=5).tree(Scene), Scene)


TREES: list[tuple[Any, type[Exception], str]] = [
    ({}, ValueError, "at least one array, got an empty dict"),
    ({"a": {}}, ValueError, "field 'a': expected at least one"),
    ({"1": np.zeros(1)}, ValueError, "places of a tuple"),
    ({"a": {"b": object()}}, TypeError, r"field 'a.b': expected a dtype of plain bytes"),
    ({"a": [[1], [2, 3]]}, ValueError, "field 'a'"),
]


@pytest.mark.parametrize(("put", "error", "says"), TREES)
def test_trees_that_cannot_be_are_named(put: Any, error: Any, says: str) -> None:
    ring = nds.Ring(slots=4)
    with pytest.raises(error, match=says):
        ring.put(put)
    assert ring.stats()["written"] == 0


# ---- notes ----------------------------------------------------------------------------------------------------------

LENGTHS = (0, 1, 300, 496, 497, 3000, 200_000)


@pytest.mark.parametrize("length", LENGTHS)
def test_notes_of_any_length_go_beside_any_frame(length: int) -> None:
    text = ("nøte " * (length // 5 + 1))[:length]
    values: list[Any] = [text, text.encode(), {"text": text, "list": [1, None, 2.5]}, [text], bytearray(b"ab").hex()]
    fixed = nds.Ring((2, 3), "u2", slots=4, meta=[("stage", "i4")])
    for ring in (fixed, nds.Ring(slots=4), nds.Ring(fields=FIELDS, slots=4)):
        frames = ring.reader()
        put: Any = view(3) if ring.dtype.names else np.full((2, 3), 5, "u2")
        for note in values:
            ring.put(put, note=note)
            shared = nds.array(put) if isinstance(put, np.ndarray) else put
            ring.put(shared, note=note)
            for _ in range(2):
                got = frames.get(timeout=5)
                assert got.note == note
                assert type(got.note) is type(note)
                check_same(got.tree(), put)
        ring.put(put)
        assert frames.get(timeout=5).note is None


def test_a_note_is_set_while_its_frame_is_written() -> None:
    ring = nds.Ring((100, 100), "u1", slots=4)
    frames = ring.reader()
    with ring.write() as frame:
        frame[:] = 1
        assert frame.note is None
        frame.note = {"short": True}
        assert frame.note == {"short": True}
        with pytest.raises(ValueError, match=r"write\(note_bytes=100000\)"):
            frame.note = "x" * 100_000
    with pytest.raises(ValueError, match="read-only"):
        frame.note = "late"
    assert frame.note == frames.get(timeout=5).note == {"short": True}
    with ring.write(note_bytes=100_000) as frame:
        frame[:] = 2
        frame.note = "x" * 100_000
    got = frames.get(timeout=5)
    assert got.note == "x" * 100_000
    assert got.min() == got.max() == 2
    with pytest.raises(ValueError, match="read-only"):
        got.note = None
    with pytest.raises(AttributeError, match="a copy"):
        _ = got.copy().view(nds.Frame).note


def test_notes_may_have_numbers_of_numpy() -> None:
    ring = nds.Ring(3, "u1", slots=2)
    frames = ring.reader()
    given = {"gain": np.float32(0.5), "on": np.bool_(True), "roi": np.array([[1, 2], [3, 4]], "u2"), "n": np.array(7)}
    for note, told in ((given, {"gain": 0.5, "on": True, "roi": [[1, 2], [3, 4]], "n": 7}), (np.int64(3), 3)):
        ring.put([1, 2, 3], note=note)
        assert frames.get(timeout=5).note == told


NO_JSON = [
    object(),
    {"a": object()},
    float("nan"),
    {1, 2},
    {"a": np.complex64(1)},
    [np.longdouble(1)],
    np.zeros(2, "M8[s]"),
]


@pytest.mark.parametrize("note", NO_JSON)
def test_notes_that_json_cannot_write_are_refused(note: Any) -> None:
    ring = nds.Ring(3, "u1", slots=4)
    with pytest.raises((TypeError, ValueError), match="expected a note that is a str, bytes, or a value that JSON"):
        ring.put([1, 2, 3], note=note)
    assert ring.stats()["written"] == 0


def test_a_note_that_is_no_json_is_an_error_for_who_asks() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    ring = nds.Ring(3, "u1", slots=4)
    frames = ring.reader()
    ring.put([1, 2, 3], note=deep)
    assert frames.get(timeout=5).note == deep
    with pytest.raises(ValueError, match="expected a note that is JSON"):
        nds._fields.json_in("[" * 100_000)  # type: ignore[attr-defined]  # pyright: ignore


def test_no_field_of_meta_is_called_note() -> None:
    with pytest.raises(ValueError, match="note"):
        nds.Ring(3, slots=4, meta=[("note", "S4")])


# ---- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_and_write_them(method: str) -> None:
    context = mp.get_context(method)
    ring, back = nds.Ring(fields=NESTED, slots=4), nds.Ring(slots=4)
    answers = back.reader()
    process = context.Process(target=ring_workers.echo_trees, args=(ring.reader(), back.writer()), daemon=True)
    process.start()
    with ring:
        for seed in range(3):
            ring.put(scene(seed), note={"seed": seed, "long": "x" * 2000 * seed})
    for seed in range(3):
        got = answers.get(timeout=HANG)
        check_same(got.tree(), scene(seed))
        assert got.note == {"seed": seed, "long": "x" * 2000 * seed}
    process.join(HANG)
    assert process.exitcode == 0


def test_another_program_attaches_by_name_and_by_text() -> None:
    program = """
        import sys
        import ndshare as nds
        for ring in (nds.attach("fields-of-a-stranger", timeout=10), nds.ref(sys.argv[1]).open()):
            frame = ring.reader(start="oldest").get(timeout=10)
            print(sorted(frame.tree()), int(frame.rgb.max()), frame.note)
    """
    ring = nds.Ring(fields=FIELDS, slots=4, keep=1)
    nds.publish("fields-of-a-stranger", ring)
    ring.put({"rgb": np.full((4, 6, 3), 9, "u1"), "depth": view(0)["depth"]}, note="for you")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(nds.ref(ring))],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    nds.unpublish("fields-of-a-stranger")
    assert done.stdout == "['depth', 'rgb'] 9 for you\n" * 2, done.stderr


def test_the_command_writes_frames_with_fields_as_npy_and_their_notes(tmp_path: Path) -> None:
    ring = nds.Ring(fields=FIELDS, slots=8, keep=5)
    nds.publish("fields-for-cat", ring)
    notes: list[Any] = ["beside\x1b", {"a": [1, None]}, b"\x01\xff", "long " * 1000, None]
    for note in notes:
        ring.put(view(5), note=note)

    def command(*arguments: str) -> bytes:
        took = ["fields-for-cat", "--start", "oldest", "--seconds", "0"]
        whole = [sys.executable, "-m", "ndshare", *arguments[:1], *took, *arguments[1:]]
        done = subprocess.run(whole, capture_output=True, timeout=HANG, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    got = np.load(io.BytesIO(command("cat", "--npy", "--frames", "1")))
    assert got.dtype == ring.dtype
    assert got["depth"].tolist() == view(5)["depth"].tolist()
    told = [
        ("text", "beside\x1b"),
        ("json", {"a": [1, None]}),
        ("bytes", "01ff"),
        ("text", "long " * 1000),
        (None, None),
    ]
    for lines in (command("cat", "--notes"), command("dump", "--json", str(tmp_path))):
        said = [json.loads(line) for line in lines.splitlines()]
        assert [(one["note_kind"], one["note"]) for one in said] == told
        assert [one["seq"] for one in said] == list(range(5))
        assert all(one["published_ns"] >= one["time_ns"] > 0 for one in said)
    nds.unpublish("fields-for-cat")


def test_a_writer_that_is_killed_leaves_nothing_half() -> None:
    ring = nds.Ring(fields=FIELDS, slots=4)
    frames = ring.reader()
    conn, theirs = mp.Pipe()
    process = mp.Process(target=ring_workers.write_fields_and_wait, args=(ring.writer(), theirs), daemon=True)
    process.start()
    theirs.close()
    assert conn.poll(HANG)
    assert conn.recv() == "inside"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(HANG)
    got = frames.get(timeout=HANG)
    assert got.note == "whole"
    assert got.rgb.min() == got.rgb.max() == 1
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)
    for seed in range(10):
        ring.put(view(seed), note=b"z" * 5000)
        got = frames.get(timeout=HANG)
        check_same(got.tree(), view(seed))
        assert got.note == b"z" * 5000


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_frames_that_are_dropped_take_their_notes_with_them(when_full: Any) -> None:
    ring = nds.Ring(fields=FIELDS, slots=2, when_full=when_full)
    frames = ring.reader()
    seqs = [ring.put(view(i), note="n" * (400 * i)) for i in range(6)]
    got = [frames.get(timeout=5) for _ in range(2)]
    numbers = [4, 5] if when_full == "drop_oldest" else [0, 1]
    assert [len(frame.note) for frame in got] == [400 * number for number in numbers]
    for frame, number in zip(got, numbers, strict=True):
        check_same(frame.tree(), view(number))
    assert (seqs[5] is None) == (when_full == "drop_newest")


def test_pickles_are_ordinary_numpy_data() -> None:
    ring = nds.Ring(fields=NESTED, slots=4)
    frames = ring.reader()
    ring.put(scene(4))
    frame = frames.get(timeout=5)
    got = pickle.loads(pickle.dumps(frame))
    assert type(got) is np.ndarray
    assert got["cam"]["rgb"].tolist() == scene(4)["cam"]["rgb"].tolist()
    rgb = pickle.loads(pickle.dumps(frame["cam"]["rgb"]))
    assert type(rgb) is np.ndarray
    assert rgb.tolist() == scene(4)["cam"]["rgb"].tolist()
    queue: Any = mp.get_context("spawn").SimpleQueue()
    queue.put(frame["cam"])
    assert queue.get()["depth"].tolist() == scene(4)["cam"]["depth"].tolist()


def test_json_notes_are_utf8_json_for_other_languages() -> None:
    assert json.loads(nds._fields.json_of({"é": [1, True, None]})) == {"é": [1, True, None]}  # type: ignore[attr-defined]  # pyright: ignore


def test_tuples_inside_each_other_without_end_are_refused() -> None:
    """A hundred thousand of them were a segmentation fault."""
    deep: Any = 1
    for _ in range(100_000):
        deep = (deep,)
    with pytest.raises(ValueError, match="64 tuples"):
        nds.Ring(slots=2).put(deep)


def test_trees_have_so_many_levels_and_no_more() -> None:
    """Of more came a text about NumPy's dtypes, or a RecursionError; and one level more no reader could read."""

    def nested(levels: int, leaf: Any) -> Any:
        for _ in range(levels):
            leaf = {"k": leaf}
        return leaf

    ring = nds.Ring(slots=2)
    frames = ring.reader()
    ring.put(tree := nested(14, np.ones(3)))
    got, spec = frames.get().tree(), nds.Ring(fields=nested(14, (3, "f8")), slots=2).dtype
    for _ in range(14):
        got, tree, spec = got["k"], tree["k"], spec["k"]
    assert (got.tolist(), spec.shape) == ([1, 1, 1], (3,))
    endless: dict[str, Any] = {}
    endless["k"] = endless
    for levels in (15, 40, 2000):
        for tree in (nested(levels, np.ones(3)), endless):
            with pytest.raises(ValueError, match=r"field 'k\.k\..*: expected at most 14 levels of dicts"):
                ring.put(tree)
        with pytest.raises(ValueError, match="at most 14 levels"):
            nds.Ring(fields=nested(levels, (3, "f8")), slots=2)
    assert ring.stats()["written"] == 1
