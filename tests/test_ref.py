"""References as text to whatever another process can use."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG
from ndshare import _ring

OTHER = """
import sys
import ndshare as nds
thing = nds.ref(sys.argv[1]).open()
match thing:
    case nds.Ring():
        thing.put([5, 6, 7], timeout=10)
    case nds.Reader():
        print(thing.get(timeout=10).tolist())
        thing.close()
    case nds.Writer():
        thing.put([1, 2, 3], timeout=10)
        thing.close()
    case nds.Cache():
        print(thing["a"].tolist())
    case nds.Overlay():
        with thing.use("floats", timeout=10) as view:
            view.x[:] = 4
    case nds.Lock():
        print(thing.acquire(timeout=0))
    case _:
        thing[:] = 9
print(type(thing).__name__)
"""


def other(thing: Any) -> list[str]:
    """Return what another process says that has nothing but a text."""
    command = [sys.executable, "-c", OTHER, str(nds.ref(thing))]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=HANG).stdout.splitlines()


def ring() -> nds.Ring:
    return nds.Ring((3,), np.int16, slots=4)


def test_a_ring_goes_as_a_text() -> None:
    reader = (made := ring()).reader()
    assert other(made) == ["Ring"]
    assert reader.get(timeout=HANG).tolist() == [5, 6, 7]


def test_a_reader_goes_as_a_text_and_is_the_other_processes() -> None:
    made = ring()
    reader = made.reader()
    with made:
        made.put([7, 8, 9])
        assert other(reader) == ["[7, 8, 9]", "Reader"]
    with pytest.raises(RuntimeError, match="reader"):
        nds.ref(reader)


def test_a_writer_goes_as_a_text_and_the_stream_ends_with_it() -> None:
    made = ring()
    reader, writer = made.reader(), made.writer()
    assert other(writer) == ["Writer"]
    assert reader.get(timeout=HANG).tolist() == [1, 2, 3]
    with pytest.raises(nds.Closed):
        reader.get(timeout=HANG)


def test_a_cache_goes_as_a_text() -> None:
    cache = nds.Cache("1 MiB", load=lambda _: np.arange(3))
    cache["a"]  # pyright: ignore[reportUnusedExpression]
    assert other(cache) == ["[0, 1, 2]", "Cache"]


def test_an_overlay_goes_as_a_text() -> None:
    scratch = nds.Overlay(floats={"x": ((3,), "f4")}, ints={"n": ((2,), "i8")})
    assert other(scratch) == ["Overlay"]
    with scratch.use("floats") as view:
        assert view.x.tolist() == [4, 4, 4]


def test_a_lock_goes_as_a_text() -> None:
    lock = nds.Lock()
    with lock:
        assert other(lock) == ["False", "Lock"]
    # Who ended with it died in it.
    assert other(lock) == ["True", "Lock"]
    with pytest.raises(nds.OwnerDied):
        lock.acquire()


def test_an_array_goes_as_a_text() -> None:
    array = nds.zeros(4, np.int8)
    assert other(array[1:3]) == ["ndarray"]
    assert array.tolist() == [0, 9, 9, 0]


MAKERS: list[Callable[[], Any]] = [
    ring,
    lambda: ring().reader(),
    lambda: ring().writer(),
    lambda: nds.Cache("1 MiB"),
    lambda: nds.Overlay(floats={"x": ((3,), "f4")}),
    nds.Lock,
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_reference_says_what_it_is_of_and_keeps_it(make: Callable[[], Any]) -> None:
    made = make()
    kind = type(made)
    reference = nds.ref(made)
    del made
    text = str(reference)
    assert repr(reference).startswith(f"<Ref {kind.__name__.lower()}, block ")
    assert repr(nds.ref(text)).startswith("<Ref object, block ")
    assert nds.ref(text) == reference
    opened = nds.ref(text).open()
    assert isinstance(opened, kind)
    del opened, reference
    with pytest.raises(nds.Stale):
        nds.ref(text).open()


def test_what_has_no_reference_is_refused_by_its_type() -> None:
    for thing in (3, None, [1, 2], nds.Canvas((2, 2), np.uint8)):
        with pytest.raises(TypeError, match=f"expected a shared array, a Ring.* got {type(thing).__name__}"):
            nds.ref(thing)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_writer_that_is_opened_twice_is_one_object() -> None:
    writer = ring().writer()
    text = str(nds.ref(writer))
    first, second = nds.ref(text).open(), nds.ref(text).open()
    assert first is second is writer
    first.put([1, 2, 3])
    first.close()
    assert second.closed
    assert writer.closed


def test_a_reader_that_is_opened_twice_is_one_object() -> None:
    reader = ring().reader()
    text = str(nds.ref(reader))
    assert nds.ref(text).open() is nds.ref(text).open() is reader
    reader.close()
    assert reader.closed


def test_a_reader_that_two_threads_open_at_once_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looked for it before the other had entered its own."""
    reader = ring().reader()
    text = str(nds.ref(reader))
    both_have_looked = threading.Barrier(2)

    class Slow(weakref.WeakValueDictionary[Any, Any]):
        def get(self, *args: Any) -> Any:
            found = super().get(*args)
            with suppress(threading.BrokenBarrierError):
                both_have_looked.wait(0.2)
            return found

    monkeypatch.setattr(_ring, "_ends", Slow())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda text: nds.ref(text).open(), [text, text])
    assert first is second
