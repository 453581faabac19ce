"""Copies are announced: a writable shared array that a pickler takes by value is named, with the line of the call.

The other half is what need not be copied: record arrays, masked arrays and the like go by reference as arrays do.
"""

from __future__ import annotations

import copy
import copyreg
import inspect
import io
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
from helpers import environment, script

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


# ---- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("copies")
def test_pickle_of_a_writable_shared_array_warns_with_the_line_of_the_call() -> None:
    """joblib and dask copied an array, the workers filled their copies, and the result was all zeros."""
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
    """loky pickles in a thread of its own, where no line of the user is to be found."""
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
@pytest.mark.parametrize("name", ["cloudpickle", "dill", "joblib.externals.cloudpickle"])
def test_the_picklers_of_libraries_are_seen(name: str) -> None:
    library = pytest.importorskip(name)
    x = nds.array([1, 2, 3])
    data: list[bytes] = []
    (warning,) = seen(lambda: data.append(library.dumps(x)))
    assert (warning.category, warning.filename) == (nds.CopyWarning, __file__)
    assert pickle.loads(data[0]).tolist() == [1, 2, 3]


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
