"""Copies are announced: a writable shared array that a pickler takes by value is named, with the line of the call.

The other half is what need not be copied: record arrays, masked arrays and the like go by reference as arrays do.
"""

from __future__ import annotations

import copy
import copyreg
import inspect
import io
import multiprocessing as mp
import pickle
import subprocess
import sys
import threading
import warnings
from collections import ChainMap
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import environment, run, script

Array = np.ndarray[Any, Any]


@pytest.fixture
def copies() -> Iterator[None]:
    nds.warn_copies()
    yield
    nds.warn_copies(False)


def seen(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    """Return the warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return list(found)


def through(pickler: type[Any], thing: object, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    pickler(file, **kwargs).dump(thing)
    return file.getvalue()


# ---- warnings -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("copies")
def test_pickle_of_a_writable_shared_array_warns_with_the_line_of_the_call() -> None:
    """Programs with joblib and dask copied an array, the workers filled their copies, and the result was all zeros."""
    x = nds.zeros((3, 4), "int16")
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    (warning,) = seen(lambda: pickle.dumps({"deep": [x[1:]]}))
    assert (warning.category, warning.filename, warning.lineno) == (nds.CopyWarning, __file__, line)
    text = str(warning.message)
    for part in ("(2, 4)", "int16", "nds.ref(a)", "multiprocessing"):
        assert part in text
    assert issubclass(nds.CopyWarning, UserWarning)


@pytest.mark.usefixtures("copies")
def test_what_is_lost_to_nobody_does_not_warn() -> None:
    x = nds.array(np.arange(4))
    readonly = x[1:]
    readonly.flags.writeable = False
    ring = nds.Ring(3, "uint8", slots=2)
    frames = ring.reader()
    ring.put([1, 2, 3])
    frame = frames.get()
    for call in (
        lambda: pickle.dumps(x + 1),
        lambda: pickle.dumps(readonly),
        lambda: pickle.dumps(frame),
        lambda: pickle.dumps(nds.ref(x)),
        lambda: copy.copy(x),
        lambda: copy.deepcopy([x]),
        lambda: ForkingPickler.loads(ForkingPickler.dumps(x)),
    ):
        assert not seen(call)
    frames.close()


@pytest.mark.usefixtures("copies")
def test_a_frame_that_is_being_written_warns() -> None:
    ring = nds.Ring(3, "uint8", slots=2)
    with ring.write() as frame:
        frame[:] = 7
        found = seen(lambda: pickle.dumps(frame))
        data = pickle.dumps(frame.view(np.ndarray) + 0)
    assert [w.category for w in found] == [nds.CopyWarning]
    assert "Frame" in str(found[0].message)
    assert (pickle.loads(data) == 7).all()


class OwnTable(pickle.Pickler):
    """As cloudpickle's and billiard's: a table of its own in front of copyreg's."""

    def __init__(self, file: Any, protocol: int | None = None) -> None:
        super().__init__(file, protocol)
        self.dispatch_table = ChainMap({complex: lambda c: (complex, (c.real, c.imag))}, copyreg.dispatch_table)


class Overrides(pickle.Pickler):
    def reducer_override(self, obj: object) -> Any:
        return (complex, (obj.real, obj.imag)) if isinstance(obj, complex) else NotImplemented


class InPython(pickle._Pickler):  # type: ignore[name-defined]  # pyright: ignore[reportPrivateUsage]
    """As dill's, and so multiprocess's."""


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("pickler", [pickle.Pickler, OwnTable, Overrides, InPython])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_picklers_of_every_make_and_protocol_warn_and_keep_the_array(pickler: type[Any], protocol: int) -> None:
    x = nds.array(np.arange(12.0).reshape(3, 4))
    for a in (x, x.T, x[:, ::2], x[1, 2, ...], x[:0], x.view(np.matrix), np.ma.masked_array(x, x > 3)):
        data: list[bytes] = []
        found = seen(lambda a=a, data=data: data.append(through(pickler, [a, a], protocol=protocol)))
        assert [w.category for w in found] == [nds.CopyWarning], a
        assert found[0].filename == __file__
        back, same = pickle.loads(data[0])
        assert back is same
        assert type(back) is type(a)
        assert (back.dtype, back.shape, repr(back)) == (a.dtype, a.shape, repr(a))
        assert back.flags.writeable
        assert not nds.is_shared(back)


@pytest.mark.usefixtures("copies")
def test_buffers_out_of_band_stay_those_of_numpy() -> None:
    """No copy is made on the way: the buffer that is handed out is the array's own memory."""
    x = nds.array(np.arange(6.0))
    buffers: list[pickle.PickleBuffer] = []
    seen(lambda: pickle.dumps(x, 5, buffer_callback=buffers.append))
    assert np.shares_memory(np.frombuffer(buffers[0]), x)
    data: list[bytes] = []
    seen(lambda: data.append(pickle.dumps(x, 5, buffer_callback=lambda _: None)))
    assert np.shares_memory(pickle.loads(data[0], buffers=buffers), x)
    assert len(data[0]) < 200
    buffers.clear()


class Tagged(np.ndarray[Any, Any]):
    """A subclass with something of its own to pickle."""

    tag: Any = None

    def __reduce__(self) -> Any:
        made, arguments, state = super().__reduce__()  # type: ignore[misc]
        return made, arguments, (state, self.tag)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.tag = state[1]


@pytest.mark.usefixtures("copies")
def test_subclasses_of_users_warn_and_arrays_that_contain_themselves_are_as_before() -> None:
    tagged = nds.array(np.arange(3)).view(Tagged)
    tagged.tag = "t"
    assert len(seen(lambda: pickle.dumps(tagged))) == 1
    # By value through multiprocessing's as well, so that pickler's copy is lost, too.
    assert len(seen(lambda: ForkingPickler.dumps(tagged))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = pickle.loads(pickle.dumps(tagged))
    assert (type(back), back.tag, back.tolist()) == (Tagged, "t", [0, 1, 2])
    cycle = np.empty(1, object)
    cycle[0] = cycle
    back = pickle.loads(pickle.dumps(cycle))
    assert back[0] is back


def test_off_there_is_nothing_of_ours_and_what_others_registered_stays() -> None:
    """Libraries register reducers for arrays of their own; they are used while warnings are on, and come back."""
    before = dict(copyreg.dispatch_table)
    x = nds.zeros(3)
    plain = pickle.dumps(x)
    assert not seen(lambda: pickle.dumps(x))
    nds.warn_copies()
    nds.warn_copies()
    nds.warn_copies(False)
    nds.warn_copies(False)
    assert copyreg.dispatch_table == before
    assert pickle.dumps(x) == plain
    copyreg.pickle(np.ndarray, theirs)
    try:
        nds.warn_copies()
        data: list[bytes] = []
        assert len(seen(lambda: data.append(pickle.dumps(x)))) == 1
        assert pickle.loads(data[0]) == [0, 0, 0]
        nds.warn_copies(False)
        assert copyreg.dispatch_table[np.ndarray] is theirs
        nds.warn_copies()
        copyreg.pickle(np.ndarray, others)
        nds.warn_copies(False)
        assert copyreg.dispatch_table[np.ndarray] is others
    finally:
        del copyreg.dispatch_table[np.ndarray]


def theirs(array: Array) -> Any:
    return list, (array.tolist(),)


def others(array: Array) -> Any:
    return tuple, (array.tolist(),)


@pytest.mark.usefixtures("copies")
def test_as_an_error_it_ends_the_call() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", nds.CopyWarning)
        with pytest.raises(nds.CopyWarning, match="by value"):
            pickle.dumps(nds.zeros(2))


@pytest.mark.usefixtures("copies")
def test_a_thread_of_a_pool_that_knows_no_call_is_named() -> None:
    """A thread of its own pickles for loky, where no line of the user is to be found."""
    library: dict[str, Any] = {"__name__": "loky.process_executor"}
    exec("import pickle\ndef feed(x):\n    pickle.dumps(x)", library)
    x = nds.zeros(2)

    def work() -> None:
        thread = threading.Thread(target=library["feed"], args=(x,), name="feeder of loky")
        thread.start()
        thread.join()

    (warning,) = seen(work)
    assert warning.category is nds.CopyWarning
    assert "feeder of loky" in str(warning.message)


@pytest.mark.usefixtures("copies")
def test_frames_of_libraries_are_skipped() -> None:
    library: dict[str, Any] = {"__name__": "cloudpickle.cloudpickle"}
    exec("import pickle\ndef dumps(x):\n    return pickle.dumps(x)", library)
    x = nds.zeros(2)
    (warning,) = seen(lambda: library["dumps"](x))
    assert warning.filename == __file__


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("name", ["cloudpickle", "dill"])
def test_the_picklers_of_libraries_are_seen(name: str) -> None:
    library = pytest.importorskip(name)
    x = nds.array([1, 2, 3])
    data: list[bytes] = []
    (warning,) = seen(lambda: data.append(library.dumps(x)))
    assert (warning.category, warning.filename) == (nds.CopyWarning, __file__)
    assert pickle.loads(data[0]).tolist() == [1, 2, 3]
    nds.warn_copies(False)
    assert not seen(lambda: library.dumps(x))


SOURCE = """
    import pickle
    import ndshare as nds
    pickle.dumps(nds.zeros(3))
"""


def program(**more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script(SOURCE))]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, check=False)


def test_the_environment_turns_it_on() -> None:
    assert "CopyWarning: a writable shared array" in program(NDSHARE_WARN="copies").stderr
    assert program().stderr == ""
    wrong = program(NDSHARE_WARN="copys")
    assert wrong.returncode == 1
    assert "ValueError: expected NDSHARE_WARN to be 'copies' or empty, got 'copys'" in wrong.stderr


def test_what_was_pickled_with_warnings_is_read_without_ndshare() -> None:
    nds.warn_copies()
    try:
        data: list[bytes] = []
        seen(lambda: data.append(pickle.dumps(nds.array([1, 2, 3]))))
    finally:
        nds.warn_copies(False)
    source = f"import pickle, sys; x = pickle.loads({data[0]!r}); print(x.tolist(), 'ndshare' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[1, 2, 3] False\n"


# ---- by reference --------------------------------------------------------------------------------------------------

ALIGNED = np.dtype([("a", "u1"), (("a title", "b"), "f8"), ("c", ">i2", (2,))], align=True)
OFFSETS = np.dtype({"names": ["x", "y"], "formats": ["<i4", "S3"], "offsets": [8, 1], "itemsize": 20})


def of_classes() -> dict[str, Array]:
    """Return shared arrays of every class of NumPy's own, and of every kind of view."""
    x = nds.array(np.arange(24.0).reshape(4, 6))
    readonly = x[1:].view(np.matrix)
    readonly.flags.writeable = False
    text = nds.array(["one", "two", "three"])
    return {
        "matrix": x.view(np.matrix),
        "matrix, reversed": x[::-2, ::3].view(np.matrix),
        "matrix, read-only": readonly,
        "memmap": x.view(np.memmap),
        "memmap, strided": x.T[::2].view(np.memmap),
        "memmap, 0-d": x[1, 2, ...].view(np.memmap),
        "memmap, empty": x[:0].view(np.memmap),
        "chararray": text.view(np.char.chararray),
        "recarray": nds.zeros(3, ALIGNED).view(np.recarray),
        "recarray, offsets": nds.zeros(3, OFFSETS).view(np.recarray),
        "recarray, strided": nds.zeros((3, 4), ALIGNED)[::-1, ::2].view(np.recarray),
        "recarray, 0-d": nds.zeros((), OFFSETS).view(np.recarray),
        "recarray, a field": nds.zeros(3, ALIGNED).view(np.recarray)["b"].view(np.recarray),
        "structured": nds.zeros(3, ALIGNED),
    }


def multiprocessings(thing: Any) -> Any:
    return ForkingPickler.loads(bytes(ForkingPickler.dumps(thing)))


def test_the_first_of_a_class_that_numpy_makes_late_goes_by_reference() -> None:
    source = """
    import pickle
    from multiprocessing.reduction import ForkingPickler
    import numpy as np, ndshare as nds
    nds.warn_copies()
    sent = np.ma.masked_array(nds.zeros(3), [0, 1, 0])
    print(nds.is_shared(pickle.loads(ForkingPickler.dumps(sent)).data))
    """
    assert run(source).clean() == "True\n"


@pytest.mark.parametrize("name", of_classes())
def test_classes_of_numpy_arrive_as_they_were(name: str) -> None:
    x = of_classes()[name]
    back = multiprocessings(x)
    assert type(back) is type(x)
    assert (back.shape, back.strides, back.flags.writeable) == (x.shape, x.strides, x.flags.writeable)
    assert (back.dtype, back.dtype.type, back.dtype.isalignedstruct) == (x.dtype, x.dtype.type, x.dtype.isalignedstruct)
    assert back.dtype.fields == x.dtype.fields
    assert back.__array_interface__["data"][0] == x.__array_interface__["data"][0] or not x.size
    assert nds.is_shared(back)


def test_the_like_in_ordinary_memory_goes_by_value_as_before() -> None:
    for x in (
        np.zeros(2, ALIGNED).view(np.recarray),
        np.array([[1, 2]]).view(np.matrix),
        np.array(["a"]).view(np.char.chararray),
        np.ma.masked_array([1, 2], [0, 1], fill_value=7),
        np.zeros(2).view(np.memmap),
    ):
        data = bytes(ForkingPickler.dumps(x))
        assert b"ndshare" not in data
        assert type(pickle.loads(data)) is type(x)
        assert repr(pickle.loads(data)) == repr(x)


@pytest.mark.parametrize("where", ["both", "data", "mask", "nomask"])
@pytest.mark.parametrize("dtype", [np.dtype("f8"), ALIGNED])
@pytest.mark.parametrize("hard", [False, True])
def test_masked_arrays_keep_data_mask_fill_value_and_hardness(where: str, dtype: np.dtype[Any], hard: bool) -> None:
    m = masked(where, dtype, hard)
    back = multiprocessings(m)
    assert type(back) is np.ma.MaskedArray
    assert (back.dtype, back.shape, back.hardmask, back.sharedmask) == (m.dtype, m.shape, hard, m.sharedmask)
    assert np.array_equal(back.fill_value, m.fill_value)
    assert back.baseclass is m.baseclass
    assert np.shares_memory(back.data, m.data) == (where != "mask")
    if where == "nomask" and dtype.names is None:
        assert back.mask is np.ma.nomask
        return
    assert np.array_equal(back.mask, m.mask)
    assert np.shares_memory(back.mask, m.mask) == (where in {"both", "mask"})


def masked(where: str, dtype: np.dtype[Any], hard: bool) -> Any:
    """Return a masked array whose named parts are shared."""
    bits = np.ma.make_mask_descr(dtype)
    data = np.zeros(4, dtype) if where == "mask" else nds.zeros(4, dtype)
    if where == "nomask":
        return np.ma.MaskedArray(data, hard_mask=hard)
    mask = np.zeros(4, bits) if where == "data" else nds.zeros(4, bits)
    mask[1] = np.ones((), bits)[()]
    fill = np.ones((), dtype)[()]
    # Without keep_mask=False NumPy copies the mask of fields.
    return np.ma.MaskedArray(data, mask=mask, copy=False, hard_mask=hard, fill_value=fill, keep_mask=False)


def test_masked_arrays_over_classes_and_views_keep_both() -> None:
    x = nds.array(np.arange(12.0).reshape(3, 4))
    mask = nds.zeros((3, 4), bool)
    mask[1] = True
    whole = np.ma.MaskedArray(x.view(np.matrix), mask=mask, copy=False)
    back = multiprocessings(whole)
    assert type(back.data) is np.matrix
    assert np.shares_memory(back.data, x)
    part = np.ma.MaskedArray(x, mask=mask, copy=False)[1:, ::-2]
    back = multiprocessings(part)
    assert back.strides == part.strides
    assert np.shares_memory(back.mask, mask)
    assert back.mask.tolist() == part.mask.tolist()
    part.flags.writeable = False
    assert not multiprocessings(part).flags.writeable


def test_a_masked_array_that_refers_to_itself_arrives_once() -> None:
    m = np.ma.MaskedArray(nds.zeros(3))
    m._optinfo["self"] = m  # type: ignore[attr-defined]
    back, same = multiprocessings([m, m])
    assert back is same
    assert back._optinfo["self"] is back
    del back._optinfo["self"], m._optinfo["self"]  # type: ignore[attr-defined]


def fill(things: list[Any]) -> list[str]:
    """Write to all of them, as a worker does."""
    record, masked_, memmap, matrix = things
    record.b = 2.5
    masked_[0] = np.ma.masked
    masked_[1] = 7
    memmap[:] = 3
    matrix[0, 1] = 4
    return [type(thing).__name__ for thing in things]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_the_receiver_writes_is_seen_by_the_sender(method: str) -> None:
    """Workers masked bad pixels and filled record arrays; the main process never saw any of it."""
    record = nds.zeros(3, ALIGNED).view(np.recarray)
    data, mask = nds.zeros(4), nds.zeros(4, bool)
    memmap, matrix = nds.zeros(2).view(np.memmap), nds.zeros((2, 2)).view(np.matrix)
    things = [record, np.ma.MaskedArray(data, mask=mask, copy=False), memmap, matrix]
    with mp.get_context(method).Pool(1) as pool:
        names = pool.apply(fill, (things,))
    assert names == ["recarray", "MaskedArray", "memmap", "matrix"]
    assert record.b.tolist() == [2.5] * 3
    assert mask.tolist() == [True, False, False, False]
    assert data[1] == 7
    assert memmap.tolist() == [3, 3]
    assert matrix[0, 1] == 4


def test_classes_of_users_go_by_value() -> None:
    """What they keep beside their items only they know; their own way to pickle is used."""
    tagged = nds.array(np.arange(3)).view(Tagged)
    tagged.tag = "t"
    back = multiprocessings(tagged)
    assert (type(back), back.tag, nds.is_shared(back)) == (Tagged, "t", False)
    assert multiprocessings(np.ma.masked) is np.ma.masked
