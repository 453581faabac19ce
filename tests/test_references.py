"""References in flight are never lost in silence, and never kept for nobody.

A reference that was pickled for a process goes with that process; all views of a block in one message go by one
reference; what does not fit says so; and a reference in an arena of one's own keeps that arena.
"""

from __future__ import annotations

import contextlib
import gc
import io
import multiprocessing as mp
import os
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
import workers
from helpers import HANG, MIB, Puppet, held, run, wait_until

METHODS = ("spawn", "forkserver")


class Ends:
    """Something in a message that ends whoever unpickles it: what is behind it never arrives."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


class Fails:
    """Something in a message that cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class WaitsFor:
    """Something in a message that is unpickled when a file is there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return workers.wait_for_file, (str(self.path),)


def nothing(*_: Any) -> None:
    """Do nothing with what arrived."""


def in_flight(arena: nds.Arena | None = None) -> int:
    return len(nds.stats(arena)["tickets"])


def token(x: Any) -> bytes:
    return bytes(ForkingPickler.dumps(x))


def ended(process: Any) -> bool:
    """Say whether a child has ended, so that multiprocessing does not notice; one of a forkserver is not our child."""
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return not Path(f"/proc/{process.pid}").exists()


# ---- processes that are over before they have read -------------------------------------------------------------------


def reader() -> Any:
    """Return a reader; it is all that keeps its ring."""
    return nds.Ring(4, "u1", slots=4).reader()


THINGS: dict[str, Callable[[], Any]] = {
    "array": lambda: nds.ones(1 << 17),
    "views": lambda: list(nds.zeros((100, 1000))),
    "lock": nds.Lock,
    "ring": lambda: nds.Ring(4, "u1", slots=4),
    "reader": reader,
    "cache": lambda: nds.Cache("4 MiB"),
    "overlay": lambda: nds.Overlay(one={"a": (1000, "f8")}),
}


@pytest.mark.parametrize("start", METHODS)
@pytest.mark.parametrize("kind", THINGS)
def test_what_a_process_never_read_is_back_when_it_is_over(start: str, kind: str) -> None:
    """A spawned process once kept what it had never unpickled as long as its parent lived."""
    before = held()
    process = mp.get_context(start).Process(target=nothing, args=(Ends(), THINGS[kind]()))
    process.start()
    process.join(HANG)
    assert process.exitcode == 3
    process.close()
    del process
    gc.collect()
    assert (in_flight(), held()) == (0, before)


@pytest.mark.parametrize("start", METHODS)
def test_an_attribute_of_a_process_is_an_argument_like_others(start: str) -> None:
    before = held()
    class_ = {"spawn": SpawnedWork, "forkserver": ServedWork}[start]
    process = class_(nds.ones(100_000))
    process.start()
    process.kill()
    process.join(HANG)
    del process
    gc.collect()
    assert (in_flight(), held()) == (0, before)


class SpawnedWork(mp.get_context("spawn").Process):
    """A process whose array is an attribute."""

    def __init__(self, array: Any) -> None:
        super().__init__()
        self.stop, self.array = Ends(), array


class ServedWork(mp.get_context("forkserver").Process):
    """The same of a forkserver."""

    def __init__(self, array: Any) -> None:
        super().__init__()
        self.stop, self.array = Ends(), array


@pytest.mark.parametrize("start", METHODS)
def test_a_pool_that_is_ended_early_keeps_no_arguments(start: str) -> None:
    before = held()
    with mp.get_context(start).Pool(2, nothing, (nds.ones(100_000),)) as pool:
        pool.terminate()
        pool.join()
    del pool
    gc.collect()
    assert wait_until(lambda: (in_flight(), held()) == (0, before))


@pytest.mark.parametrize("start", METHODS)
def test_an_executor_whose_workers_die_at_their_arguments(start: str) -> None:
    before = held()
    array = nds.ones(100_000)
    context = mp.get_context(start)
    pool = ProcessPoolExecutor(1, context, initializer=nothing, initargs=(Ends(), array))
    with pool, pytest.raises(BrokenProcessPool):
        pool.submit(nothing).result(HANG)
    del array, pool
    gc.collect()
    assert wait_until(lambda: (in_flight(), held()) == (0, before))


@pytest.mark.parametrize("start", METHODS)
def test_a_process_that_could_not_be_started_keeps_nothing(start: str) -> None:
    """What comes behind the array cannot be pickled: there never is a process."""
    before = held()
    process = mp.get_context(start).Process(target=nothing, args=(nds.ones(100_000), lambda: None))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        process.start()
    del process
    gc.collect()
    assert (in_flight(), held()) == (0, before)


@pytest.mark.parametrize("start", METHODS)
def test_a_slow_process_is_not_robbed(start: str, tmp_path: Path) -> None:
    """Whoever lives may still read: neither a look, nor a shortage, nor the next start takes its references."""
    go, done = tmp_path / "go", tmp_path / "done"
    with nds.Arena("64 MiB") as arena:
        array = nds.full(40 * MIB, 7, np.uint8, arena=arena)
        process = mp.get_context(start).Process(
            target=workers.write_sum, args=(WaitsFor(go), array[:1000], str(done), arena)
        )
        process.start()
        del array
        assert process.is_alive()
        assert [t["receiver"] for t in nds.stats(arena)["tickets"]] == [process.pid] * 2
        with pytest.raises(nds.ArenaFull, match=f"to pid {process.pid}"):
            nds.zeros(40 * MIB, np.uint8, arena=arena)
        assert nds.reclaim(older_than=3600.0, arena=arena) == 0
        go.touch()
        process.join(HANG)
        assert (process.exitcode, done.read_text()) == (0, "7000")
        assert held(arena) == 0


def test_a_shortage_takes_back_what_nobody_will_read() -> None:
    """Nobody has joined the process, and the arena has no room: that its receiver is over is seen all the same."""
    with nds.Arena("64 MiB") as arena:
        process = mp.get_context("spawn").Process(
            target=nothing, args=(Ends(), nds.zeros(40 * MIB, np.uint8, arena=arena))
        )
        process.start()
        assert wait_until(lambda: ended(process))
        assert nds.zeros(40 * MIB, np.uint8, arena=arena).size == 40 * MIB
        process.join(HANG)


@pytest.mark.parametrize("start", METHODS)
def test_a_look_finds_them_without_a_join(start: str) -> None:
    before = held()
    process = mp.get_context(start).Process(target=nothing, args=(Ends(), nds.ones(100_000)))
    process.start()
    assert wait_until(lambda: (in_flight(), held()) == (0, before))
    process.join(HANG)


def test_a_dropped_process_that_runs_keeps_what_it_has_not_read(tmp_path: Path) -> None:
    """Its parent forgets it, and it lives: the array is still its own."""
    go, done = tmp_path / "go", tmp_path / "done"
    process = mp.get_context("spawn").Process(
        target=workers.write_sum, args=(WaitsFor(go), nds.full(1000, 3, np.uint8), str(done))
    )
    process.start()
    pid = process.pid or 0
    mp.process._children.discard(process)  # type: ignore[attr-defined]
    del process
    gc.collect()
    assert in_flight() == 1
    go.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert done.read_text() == "3000"
    assert in_flight() == 0


def test_a_forked_childs_copy_of_a_process_object_takes_nothing_back(tmp_path: Path) -> None:
    """A fork copies the list of what was sent. When the copy goes, the original's process still has to read."""
    go, done = tmp_path / "go", tmp_path / "done"
    process = mp.get_context("spawn").Process(
        target=workers.write_sum, args=(WaitsFor(go), nds.full(1000, 5, np.uint8), str(done))
    )
    process.start()
    forked = mp.get_context("fork").Process(target=nothing)  # drops its copies of its parent's processes
    forked.start()
    forked.join(HANG)
    assert in_flight() == 1
    go.touch()
    process.join(HANG)
    assert (process.exitcode, done.read_text()) == (0, "5000")


# ---- readers that never arrive ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [True, False])
def test_a_reader_that_never_arrived_holds_nobody_back(joined: bool) -> None:
    """The writer once waited for ever for a reader that had died on its way."""
    ring = nds.Ring(4, "u1", slots=4)
    process = mp.get_context("spawn").Process(target=nothing, args=(Ends(), ring.reader()))
    process.start()
    assert wait_until(lambda: ended(process))
    if joined:
        process.join(HANG)
    for n in range(20):
        ring.put([n] * 4, timeout=HANG)
    assert ring.stats()["readers"] == []
    process.join(HANG)


def test_a_writer_elsewhere_is_not_held_back_either() -> None:
    """The one who started the dead process does nothing: it neither joins nor looks. The writer judges for itself."""
    ring = nds.Ring(4, "u1", slots=4)
    with Puppet() as puppet:
        process = mp.get_context("spawn").Process(target=nothing, args=(Ends(), ring.reader()))
        process.start()
        assert wait_until(lambda: ended(process))
        assert puppet.do("put_frames", ring, 20) == 20
    process.join(HANG)


@pytest.mark.parametrize("start", METHODS)
def test_a_writer_that_never_arrived_is_a_death(start: str) -> None:
    """It counted as outstanding, so that readers waited for the end of a stream that nobody would write."""
    ring = nds.Ring(4, "u1", slots=4)
    frames = ring.reader()
    process = mp.get_context(start).Process(target=nothing, args=(Ends(), ring.writer()))
    process.start()
    process.join(HANG)
    with pytest.raises(nds.WriterDied):
        frames.get(timeout=HANG)


# ---- many views ------------------------------------------------------------------------------------------------------


def test_all_views_of_a_block_in_a_message_are_one_reference() -> None:
    """Of 70,000 views 65,536 once went by reference and the rest as copies, which nobody was told."""
    images = nds.zeros((70_000, 4), np.uint8)
    data = token(list(images))
    assert in_flight() == 1
    views = pickle.loads(data)
    assert in_flight() == 0
    for view in views:
        view[...] += 1
    assert images.min() == images.max() == 1


def test_kinds_of_views() -> None:
    """Views of views, of memoryviews and buffers, rows and columns, and the array itself."""
    a = nds.zeros((50, 40), np.int16)
    flat = np.frombuffer(memoryview(a).cast("B"), np.int16)  # type: ignore[call-overload]
    frozen = a[3:5]
    frozen.flags.writeable = False
    things = [a, a.T, a[1::2, ::-1], a[4][5:], flat, np.asarray(memoryview(a)), pickle.loads(token(a)), frozen]
    data = token(things)
    assert in_flight() == 1
    for was, now in zip(things, pickle.loads(data), strict=True):
        assert np.shares_memory(was, now)
        assert (was.shape, was.strides, was.flags.writeable) == (now.shape, now.strides, now.flags.writeable)


def test_each_block_has_a_reference_of_its_own() -> None:
    arrays = [nds.full(10, n) for n in range(20)]
    data = token([arrays, arrays, [a[2:] for a in arrays]])
    assert in_flight() == 20
    del arrays
    first, second, third = pickle.loads(data)
    assert in_flight() == 0
    assert [a[0] for a in first] == [a[0] for a in second] == [a[0] for a in third] == list(range(20))


def test_views_of_frames_are_one_reference() -> None:
    ring = nds.Ring((50, 4), "u1", slots=4)
    frames = ring.reader()
    ring.put(np.ones((50, 4), "u1"))
    frame = frames.get()
    data = token([frame, *frame])
    assert in_flight() == 1
    assert all((x == 1).all() and nds.is_shared(x) for x in pickle.loads(data))


@pytest.mark.parametrize("kind", ["Pipe", "SimpleQueue", "Queue", "JoinableQueue"])
def test_whatever_carries_it_a_message_is_one_message(kind: str) -> None:
    context = mp.get_context("fork")
    a = nds.zeros((300, 4), np.uint8)
    here, there = context.Pipe()
    queue = None if kind == "Pipe" else getattr(context, kind)()
    put, get = (here.send, there.recv) if queue is None else (queue.put, queue.get)
    put(list(a[:5]))
    get()
    put(list(a))
    assert wait_until(lambda: in_flight() == 1)
    for view in get():
        view[...] += 1
    assert in_flight() == 0
    assert (a == 1).all()
    for end in (here, there):
        end.close()
    if queue is not None:
        queue.close()


def test_pools_and_executors_send_messages_too(method: str) -> None:
    before = nds.stats()["copied_by_bound"]
    a = nds.zeros((500, 4), np.uint8)
    with mp.get_context(method).Pool(1) as pool:
        assert pool.map(workers.add_one_to_all, [list(a)]) == [500]
    with nds.ProcessPoolExecutor(1, mp.get_context(method)) as executor:
        assert list(executor.map(workers.add_one_to_all, [list(a)])) == [500]
    assert (a == 2).all()
    assert (in_flight(), nds.stats()["copied_by_bound"]) == (0, before)


def test_a_million_views_that_are_received_in_time_never_reach_the_bound() -> None:
    before = nds.stats()["copied_by_bound"]
    a = nds.zeros((100_000, 2), np.uint8)
    for _ in range(10):
        views = pickle.loads(token(list(a)))
        assert np.shares_memory(views[-1], a)
        del views
    for row in a[:70_000]:
        pickle.loads(token(row))[:] = 1
    assert (a[:70_000] == 1).all()
    assert (in_flight(), nds.stats()["copied_by_bound"]) == (0, before)


def test_a_message_read_twice() -> None:
    """The second reading is as with a single array: good while anybody holds the block, else Stale."""
    a = nds.ones((30, 10))
    data = token(list(a))
    first, second = pickle.loads(data), pickle.loads(data)
    assert np.shares_memory(first[3], second[3])
    del a, first, second
    with pytest.raises(nds.Stale):
        pickle.loads(data)


def test_a_message_that_is_read_in_part_leaves_nothing() -> None:
    before = held()
    a = nds.ones((30, 100))
    data = token([a[0], a[1], Fails(), a[2]])
    del a
    with pytest.raises(ValueError, match="no number"):
        pickle.loads(data)
    gc.collect()
    assert (in_flight(), held()) == (0, before)


def through_a_pipe(message: Any) -> None:
    _, writer = mp.Pipe(duplex=False)
    writer.send(message)


@pytest.mark.parametrize("send", [token, through_a_pipe])
def test_a_message_that_fails_keeps_nothing(send: Callable[[Any], Any]) -> None:
    """A server whose messages failed now and then lost memory, and after 65,536 of them sent copies."""
    ring = nds.Ring(4, "u1", slots=2)
    for _ in range(3):
        with pytest.raises((AttributeError, pickle.PicklingError)):
            send([nds.ones(1000), ring, nds.Lock(), lambda: 0])
    assert in_flight() == 0


def test_a_pickler_that_is_used_again_begins_a_new_message() -> None:
    """The second message had the reference of the first, which was taken by whoever read that one."""
    x = nds.array(np.arange(50))
    file = io.BytesIO()
    pickler = ForkingPickler(file)
    for start in range(3):
        pickler.clear_memo()
        pickler.dump(x[start:])
    assert in_flight() == 3
    del x
    file.seek(0)
    assert [pickle.load(file)[0] for _ in range(3)] == [0, 1, 2]
    assert in_flight() == 0


def test_a_reducer_of_the_users_for_arrays_stays() -> None:
    code = """
import io, pickle
from multiprocessing.reduction import ForkingPickler
import numpy as np, ndshare as nds
ForkingPickler.register(np.ndarray, lambda a: (len, ([1, 2, 3],)))
print(pickle.loads(bytes(ForkingPickler.dumps(np.ones(5)))), pickle.loads(bytes(ForkingPickler.dumps(nds.ones(5)))))
"""
    assert run(code).clean() == "3 3\n"


class Tells:
    """Something whose reducer sends an array to somebody else while a process is being started."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn

    def __reduce__(self) -> Any:
        self.conn.send(nds.ones(1000))
        return int, ()


def test_what_a_reducer_sends_elsewhere_is_not_the_new_processs() -> None:
    """It counted as an argument of the process, and was taken back with it before its receiver came."""
    ours, theirs = mp.Pipe(duplex=False)
    process = mp.get_context("spawn").Process(target=nothing, args=(Tells(theirs),))
    process.start()
    process.join(HANG)
    assert process.exitcode == 0
    assert ours.recv().sum() == 1000


def test_what_a_reducer_sent_elsewhere_arrives_also_when_its_own_message_fails() -> None:
    """What is pickled inside a message that fails later may be on its way to somebody: it is not taken back."""
    ours, theirs = mp.Pipe(duplex=False)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        token([Tells(theirs), nds.ones(10), lambda: 0])
    assert in_flight() == 1
    assert ours.recv().sum() == 1000
    assert in_flight() == 0


FORKSERVER_DIES = """
import multiprocessing as mp, os, signal, sys, time
from multiprocessing import forkserver
import ndshare as nds, workers

class Waits:
    def __init__(self, path): self.path = path
    def __reduce__(self): return workers.wait_for_file, (self.path,)

def total(_, x, conn): conn.send(float(x.sum()))

if __name__ == "__main__":
    context = mp.get_context("forkserver")
    ours, theirs = mp.Pipe(duplex=False)
    process = context.Process(target=total, args=(Waits(sys.argv[1]), nds.ones(1000), theirs))
    process.start()
    process._args = None
    theirs.close()
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    while process.is_alive(): time.sleep(0.01)  # multiprocessing takes it for dead, and it lives
    os.kill(process.pid, 0)
    open(sys.argv[1], "w").close()
    print(ours.recv())
"""


def test_a_process_whose_forkserver_died_keeps_its_arguments(tmp_path: Path) -> None:
    assert run(FORKSERVER_DIES, str(tmp_path / "go")).clean() == "1000.0\n"


def test_two_messages_have_two_references() -> None:
    """Each message keeps what it names, whichever is read first and is gone first."""
    a = nds.full(1000, 4)
    data = [token([a, a[1:]]) for _ in range(3)]
    del a
    assert in_flight() == 3
    for each in data:
        assert pickle.loads(each)[1].sum() == 4 * 999
    assert in_flight() == 0


# ---- at the bound ----------------------------------------------------------------------------------------------------


def test_beyond_the_bound_each_copy_is_told_and_counted() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.full(100, 3, np.uint8, arena=arena)
        frozen = x[:]
        frozen.flags.writeable = False
        tokens = [token(x) for _ in range(nds.stats(arena)["ticket_budget"])]
        count = nds.stats(arena)["copied_by_bound"]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            copies = [pickle.loads(token(x)), pickle.loads(token(frozen))]
        assert [w.category for w in said] == [nds.CopyWarning] * 2
        assert ["writable" in str(w.message) for w in said] == [True, False]
        assert {w.filename for w in said} == {__file__}
        assert all((copy == 3).all() and not nds.is_shared(copy) for copy in copies)
        assert nds.stats(arena)["copied_by_bound"] == count + 2
        with warnings.catch_warnings():
            warnings.simplefilter("error", nds.CopyWarning)
            for _ in range(2):
                with pytest.raises(nds.CopyWarning, match="reclaim"):
                    token(x)
        # What is received gives its place back.
        pickle.loads(tokens.pop())
        assert np.shares_memory(pickle.loads(token(x)), x)
        nds.reclaim(arena=arena)


def test_by_the_usual_filters_the_bound_is_told_once_for_a_place() -> None:
    source = """
    import ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    x = nds.zeros(10)
    keep = [ForkingPickler.dumps(x) for _ in range(nds.stats()["ticket_budget"])]
    for _ in range(5):
        ForkingPickler.dumps(x)
    print(nds.stats()["copied_by_bound"])
    """
    done = run(source)
    assert done.out.strip() == "5"
    assert done.err.count("CopyWarning") == 1


# ---- arenas of one's own ---------------------------------------------------------------------------------------------


def mapped(name: str) -> bool:
    return name in Path("/proc/self/maps").read_text()


def test_a_reference_in_flight_keeps_its_arena() -> None:
    """The sender once dropped array and arena, and the receiver could not reach them any more."""
    arena = nds.Arena("64 MiB")
    name, data = arena.id, token(nds.full(1000, 6, np.uint8, arena=arena)[::2])
    arena.close()
    del arena
    gc.collect()
    with Puppet("spawn") as puppet:
        assert puppet.do("sum_of", data) == 3000
    # It was received, so nothing keeps the arena in this process.
    nds.Arena("8 MiB").close()
    assert not mapped(name)


def test_an_arena_in_flight_is_kept_too() -> None:
    arena = nds.Arena("64 MiB")
    name, data = arena.id, token(arena)
    del arena
    gc.collect()
    with Puppet("spawn") as puppet:
        assert puppet.do("fill_in_arena", data, 1000, 2.0) == 2000
    nds.Arena("8 MiB").close()
    assert not mapped(name)


def test_an_arena_that_is_read_twice_is_there_while_anybody_has_it() -> None:
    data = token(nds.Arena("64 MiB"))
    first, second = pickle.loads(data), pickle.loads(data)
    assert first.id == second.id
    assert held(first) == 0
    del first, second
    gc.collect()
    nds.Arena("8 MiB").close()
    with pytest.raises(nds.AttachError):
        pickle.loads(data)


def test_a_full_arena_can_be_sent() -> None:
    with nds.Arena("2 MiB") as arena:
        full = nds.zeros(2 * MIB, np.uint8, arena=arena)
        assert pickle.loads(token(arena)).id == arena.id
        del full


def test_reclaim_takes_back_what_an_arena_is_kept_for() -> None:
    """Nobody has an object of the arena any more to name it by."""
    arena = nds.Arena("64 MiB")
    name, data = arena.id, token(nds.zeros(MIB, np.uint8, arena=arena))
    del arena
    gc.collect()
    assert mapped(name)
    assert nds.reclaim(older_than=3600.0) == 0
    assert nds.reclaim() >= MIB
    nds.Arena("8 MiB").close()
    assert not mapped(name)
    with pytest.raises(nds.AttachError):
        pickle.loads(data)


def test_a_forked_child_keeps_no_arena_for_its_parents_references() -> None:
    arena = nds.Arena("64 MiB")
    name, data = arena.id, token(nds.full(1000, 1, np.uint8, arena=arena))
    del arena
    gc.collect()
    with Puppet("fork") as puppet:
        assert puppet.do("still_maps", name) is False
    assert pickle.loads(data).sum() == 1000


@pytest.mark.parametrize("start", METHODS)
def test_an_arena_goes_with_a_process_that_never_read_it(start: str) -> None:
    arena = nds.Arena("64 MiB")
    name = arena.id
    process = mp.get_context(start).Process(target=nothing, args=(Ends(), arena, nds.zeros(9, arena=arena)))
    process.start()
    process.join(HANG)
    del process, arena
    gc.collect()
    nds.Arena("8 MiB").close()
    assert not mapped(name)


# ---- who is asked ----------------------------------------------------------------------------------------------------


def test_the_error_names_what_is_undelivered() -> None:
    with nds.Arena("64 MiB") as arena:
        data = [token(nds.zeros(n * MIB, np.uint8, arena=arena)) for n in (1, 2, 20, 30)]
        with pytest.raises(nds.ArenaFull) as caught:
            nds.zeros(40 * MIB, np.uint8, arena=arena)
        text = str(caught.value)
        assert "4 undelivered hand-overs keep 53 MiB" in text
        assert f"30 MiB from pid {os.getpid()}, this process" in text
        assert "20 MiB from" in text
        assert "s ago" in text
        assert "1 MiB from" not in text
        nds.reclaim(arena=arena)
        assert nds.zeros(40 * MIB, np.uint8, arena=arena).size == 40 * MIB
        del data
