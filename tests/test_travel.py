"""Arrays travel by reference: what arrives is the same bytes, whichever way they went.

A hand-over is a ticket: it holds the block until the first receiver opens it, so a sender may be gone by then.
Everything that multiprocessing can carry is tried with every start method. Everything that must not depend on
ndshare (plain pickle, files, machines far away) goes by value or says so.
"""

from __future__ import annotations

import copy
import io
import itertools
import multiprocessing as mp
import os
import pickle
import queue as queues
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndshare as nds
import workers
from helpers import (
    HANG,
    MIB,
    Puppet,
    environ,
    environment,
    held,
    limited,
    run,
    script,
    settle,
    shared_pattern,
    wait_until,
)

Array = np.ndarray[Any, Any]
STRUCT = np.dtype([("x", "<f4"), ("y", ">i2", (3,)), ("z", "S5")])


def token(x: Any) -> bytes:
    """Return what multiprocessing would write into a pipe."""
    return bytes(ForkingPickler.dumps(x))


def opened(data: bytes) -> Any:
    return ForkingPickler.loads(data)


def views() -> dict[str, Array]:
    """Return views of every kind of stride."""
    x = nds.array(np.arange(2 * 6 * 8, dtype=np.int32).reshape(2, 6, 8))
    readonly = x[0, 1:4]
    readonly.flags.writeable = False
    return {
        "whole": x,
        "slice": x[:, 1:5, ::3],
        "reversed": x[::-1, ::-2, ::-1],
        "transposed": x.transpose(2, 0, 1),
        "fortran": nds.array(np.arange(12.0).reshape(3, 4), order="F"),
        "broadcast": np.broadcast_to(x[0, 0], (5, 8)),
        "zero stride in the middle": np.lib.stride_tricks.as_strided(x, (2, 3, 4), (192, 0, 4)),
        "windows": np.lib.stride_tricks.sliding_window_view(x[0, 0], 3),
        "diagonal": np.diagonal(x[0]),
        "read-only": readonly,
        "one element": x[1, 2, 3:4],
        "scalar": x[1, 2, 3:4].reshape(()),
        "empty": nds.zeros((5, 0)),
        "empty slice": x[:, 3:3],
        "empty end": x.reshape(-1)[96:],
        "last": x.reshape(-1)[95:],
        "unaligned": x.view(np.uint8).reshape(-1)[1:9].view(np.int32),
        "other dtype": x.view(np.float32),
        "big-endian": nds.array([1, 2, 3], ">i8"),
        "field": nds.zeros(4, STRUCT)["y"],
        "structured": nds.zeros((2, 2), STRUCT),
        "datetime": nds.array(["2020-01-01", "NaT"], "M8[us]"),
        "void": nds.zeros(3, "V7"),
        "text": nds.array(["ab", "ünï"]),
        "bool": nds.array([True, False]),
        "half": nds.array([1.5], "f2"),
        "complex256": nds.array([1 + 2j], np.complex256),
        "newaxis": x[None, :, None, 0],
        "many dimensions": x.reshape((1,) * 30 + (2, 48)),
    }


VIEWS = tuple(views())


def same_but_shared(seen: dict[str, Any], x: Array) -> None:
    expected = workers.describe(x)
    if x.size == 0 or 1 in x.shape:  # a stride that is never walked means nothing
        seen, expected = dict(seen, strides=None), dict(expected, strides=None)
    if x.size == 0:
        seen, expected = dict(seen, shared=None), dict(expected, shared=None)
    assert seen == expected


# ---- the token ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VIEWS)
def test_views_arrive_as_they_are(name: str) -> None:
    x = views()[name]
    with Puppet() as puppet:
        same_but_shared(puppet.do("describe", x), x)
        back = puppet.do("echo", x)
    same_but_shared(workers.describe(back), x)
    if x.size:
        assert np.shares_memory(back, x) or back.tobytes() == x.tobytes()
        assert type(back) is np.ndarray


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "many dimensions"])
def test_tokens_are_shorter_than_256_bytes(name: str) -> None:
    x = views()[name]
    data = token(x)
    assert len(data) < 256
    opened(data)


def test_a_large_array_is_a_short_token() -> None:
    x = nds.empty((1000, 1200, 4, 8), np.float32)
    data = token(x)
    assert len(data) < 256
    assert np.shares_memory(opened(data), x)


RARE = [
    np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [3, 16], "itemsize": 40}),
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
    np.dtype([(("a title", "a"), "u1"), ("b", [("c", ">i2", (2, 3)), ("d", "S3")])]),
    np.dtype({"names": ["b", "a"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
    np.dtype((np.record, [("a", "i4"), ("b", "f4")])),
    np.dtype("i4", metadata={"unit": "m"}),
    np.dtype([("a", np.dtype("i4", metadata={"unit": "m"}))]),
    np.dtype([]),
    np.dtype([("ünï 'quoted'", "M8[25us]"), ('"', "U3")]),
    np.dtype([(f"field{i}", "f4") for i in range(100)]),
]


def same_dtype(a: np.dtype[Any], b: np.dtype[Any]) -> None:
    assert a == b
    assert (a.descr if a.names is None else a.fields) == (b.descr if b.names is None else b.fields)
    assert (a.itemsize, a.isalignedstruct, a.type, a.metadata) == (b.itemsize, b.isalignedstruct, b.type, b.metadata)
    for name in a.names or ():
        same_dtype(a[name], b[name])


@pytest.mark.parametrize("dtype", RARE, ids=lambda x: str(x)[:40])
def test_rare_dtypes_arrive_whole(dtype: np.dtype[Any]) -> None:
    x = np.asarray(nds.zeros(3, dtype))
    same_dtype(x.dtype, dtype)
    y = opened(token(x))
    same_dtype(y.dtype, dtype)
    assert np.shares_memory(x, y) or not dtype.itemsize
    if dtype.metadata is None and not (dtype.names and dtype["a" if "a" in dtype.names else dtype.names[0]].metadata):
        assert nds.ref(str(nds.ref(x))).open().dtype == dtype


@given(dtype=hnp.array_dtypes(allow_subarrays=True) | hnp.nested_dtypes())
def test_any_dtype_arrives_whole(dtype: np.dtype[Any]) -> None:
    x = nds.zeros(2, dtype)
    same_dtype(opened(token(x)).dtype, x.dtype)


@given(data=st.data())
def test_any_view_of_anything(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=6))
    base = nds.empty(shape, data.draw(st.sampled_from(["u1", "<f4", ">i2", "M8[s]", STRUCT])))
    base.view(np.uint8).reshape(-1)[:] = np.arange(base.nbytes) % 128
    steps = tuple(
        slice(data.draw(st.none() | st.integers(-7, 7)), data.draw(st.none() | st.integers(-7, 7)), step)
        for step in data.draw(
            st.lists(st.sampled_from([1, 2, 3, -1, -2, -3]), min_size=len(shape), max_size=len(shape))
        )
    )
    view = base[steps].transpose(data.draw(st.permutations(range(len(shape)))))
    view.flags.writeable = data.draw(st.booleans())
    same_but_shared(workers.describe(opened(token(view))), view)


def test_the_same_bytes_not_a_snapshot() -> None:
    x = nds.zeros(10)
    data = token(x)
    x[3] = 5
    y = opened(data)
    assert y[3] == 5
    y[4] = 6
    assert x[4] == 6


def test_a_read_only_view_stays_read_only() -> None:
    x = nds.zeros(10)
    view = x[2:5]
    view.flags.writeable = False
    with Puppet() as puppet:
        with pytest.raises(ValueError, match="read-only"):
            puppet.do("store", view, 0, 1.0)
        puppet.do("store", x, 2, 4.0)
    assert view[0] == 4


def test_reaching_views_are_refused_and_not_read() -> None:
    # Read for its value, such a view once ended the process: its block was the last of the arena.
    x = nds.zeros(64, np.uint8)
    for beyond in (
        np.lib.stride_tricks.as_strided(x, (2 * MIB,), (1,), writeable=False),
        np.lib.stride_tricks.as_strided(x, (nds.stats()["capacity"],), (1,), writeable=False),
    ):
        with pytest.raises(ValueError, match="reaches beyond"):
            token(beyond)


def test_containers_carry_arrays() -> None:
    x, y = shared_pattern(1000, 1), shared_pattern((10, 10), 2)
    with Puppet() as puppet:
        back = puppet.do("echo", {"a": [x, (y, x)], "plain": np.arange(3), "none": None})
        again = puppet.do("echo", [x, x])
    assert np.shares_memory(back["a"][0], x)
    assert np.shares_memory(back["a"][1][0], y)
    assert not nds.is_shared(back["plain"])
    assert (back["plain"] == [0, 1, 2]).all()
    assert again[0] is again[1]


# ---- every way to send ----------------------------------------------------------------------------------------------


def test_process_arguments(method: str) -> None:
    x = nds.zeros((4, 5), np.int32)
    context = mp.get_context(method)
    process = context.Process(target=workers.store, args=(x[1:, ::2], (0, 1), 42))
    process.start()
    process.join(HANG)
    assert process.exitcode == 0
    assert x[1, 2] == 42
    assert x.sum() == 42


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue", "Pipe"])
def test_queues_and_pipes(method: str, kind: str) -> None:
    context = mp.get_context(method)
    with Puppet(method) as puppet:
        if kind == "Pipe":
            there, back = context.Pipe()
            send, receive = there.send, back.recv
        else:
            queue = getattr(context, kind)()
            send, receive = queue.put, queue.get
        for n in (1, 10, 100_000):
            x = shared_pattern(n, n)
            send(x[::-1])
            y = receive()
            assert np.shares_memory(y, x)
            assert (y == x[::-1]).all()
            back_again = puppet.do("echo", y)
            assert np.shares_memory(back_again, x)
        if kind == "JoinableQueue":
            for _ in range(3):
                queue.task_done()
            queue.join()
        if kind.endswith("Queue") and kind != "SimpleQueue":
            queue.close()
            queue.join_thread()


def test_the_question_the_project_began_with(method: str) -> None:
    context = mp.get_context(method)
    x = nds.zeros(10, np.uint8)
    queue = context.JoinableQueue()
    worker = context.Process(target=workers.work, args=(queue, x), daemon=True)
    worker.start()
    for i in range(10):
        queue.put((i, nds.full(3, i, np.uint8)))
    queue.join()
    assert (x == np.arange(10) * 3).all()
    queue.put(None)
    worker.join(HANG)
    queue.close()
    queue.join_thread()


def test_pools(method: str) -> None:
    arrays = [shared_pattern(1000, i) for i in range(20)]
    with mp.get_context(method).Pool(2) as pool:
        totals = pool.map(workers.total, arrays, chunksize=3)
        assert totals == [float(x.sum()) for x in arrays]
        before = [x.copy() for x in arrays]
        for x, old, y in zip(arrays, before, pool.imap(workers.add_one, arrays), strict=True):
            assert np.shares_memory(x, y)
            assert (x == old + 1).all()
        fresh = pool.map(workers.made, [10, 1000, 100_000])
        assert all(nds.is_shared(x) and (x == x.size).all() for x in fresh)
        assert np.shares_memory(pool.apply_async(workers.echo, (arrays[0],)).get(HANG), arrays[0])
        pool.close()
        pool.join()
    assert all((x == x.size).all() for x in fresh)


def test_concurrent_futures(method: str) -> None:
    arrays = [shared_pattern(5000, i) for i in range(8)]
    with ProcessPoolExecutor(2, mp_context=mp.get_context(method)) as pool:
        results = list(pool.map(workers.add_one, arrays))
        fresh = pool.submit(workers.made, 4096).result(HANG)
    for x, y in zip(arrays, results, strict=True):
        assert np.shares_memory(x, y)
    assert nds.is_shared(fresh)
    assert (fresh == 4096).all()


def test_managers(method: str) -> None:
    x = shared_pattern(1000, 3)
    context = mp.get_context(method)
    with context.Manager() as manager:
        things, names, queue = manager.list([x]), manager.dict(x=x), manager.Queue()
        queue.put(x)
        assert np.shares_memory(things[0], x)
        assert np.shares_memory(names["x"], x)
        assert np.shares_memory(queue.get(), x)
        with Puppet(method) as puppet:
            things.append(puppet.do("made", 77))
        assert (things[1] == 77).all()
        assert nds.is_shared(things[1])
        names["x"][0] = 5
        assert x[0] == 5


def test_a_manager_from_before_the_first_allocation() -> None:
    source = """
    import multiprocessing as mp, sys

    if __name__ == "__main__":
        for method in ("spawn", "forkserver", "fork"):
            with mp.get_context(method).Manager() as manager:
                box = manager.list()
                import numpy as np, ndshare as nds
                x = nds.array(np.arange(5))
                box.append(x)
                del x
                assert nds.is_shared(box[0]) and (box[0] == np.arange(5)).all()
    """
    run(source).clean()


def test_threads_send_at_the_same_time() -> None:
    queue: Any = mp.SimpleQueue()
    threads = [threading.Thread(target=lambda i=i: [queue.put(nds.full(50, i)) for _ in range(50)]) for i in range(4)]
    for thread in threads:
        thread.start()
    seen = [int(queue.get()[0]) for _ in range(200)]
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(list(range(4)) * 50)


# ---- by value -------------------------------------------------------------------------------------------------------


def test_ordinary_arrays_go_by_value_as_ever() -> None:
    x = np.arange(1000)
    y = opened(token(x))
    assert not nds.is_shared(y)
    assert (x == y).all()
    assert len(token(x)) >= x.nbytes


@pytest.mark.parametrize("name", VIEWS)
def test_plain_pickle_is_an_ordinary_copy(name: str) -> None:
    x = views()[name]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        y = pickle.loads(pickle.dumps(x, protocol))
        assert not nds.is_shared(y)
        assert type(y) is np.ndarray
        # NumPy itself keeps the byte order only with protocol 5, and only of arrays that are contiguous.
        assert (y.shape, y.dtype.newbyteorder("=")) == (x.shape, x.dtype.newbyteorder("="))
        assert y.astype(x.dtype).tobytes() == x.tobytes()


def test_out_of_band_pickles_have_ordinary_buffers() -> None:
    x = shared_pattern((50, 50), 3)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    assert len(data) < 500
    copies = [bytes(b.raw()) for b in buffers]
    assert (pickle.loads(data, buffers=copies) == x).all()


def test_copies_are_ordinary() -> None:
    x = shared_pattern((5, 6), 1)
    for y in (copy.copy(x), copy.deepcopy(x), copy.deepcopy([x])[0], x.copy()):
        assert not nds.is_shared(y)
        assert (y == x).all()


def test_files_are_numpys() -> None:
    x = shared_pattern((5, 6), 1)
    file = io.BytesIO()
    np.save(file, x)
    file.seek(0)
    assert (np.load(file) == x).all()
    with io.BytesIO() as zipped:
        np.savez_compressed(zipped, x=x)
        zipped.seek(0)
        assert (np.load(zipped)["x"] == x).all()


@pytest.mark.parametrize("flags", [[], ["-I"], ["-X", "importtime"]], ids=str)
def test_pickles_are_readable_where_ndshare_is_not(flags: list[str], tmp_path: Any) -> None:
    things = {"x": shared_pattern((5, 6), 1)[::2], "f": nds.zeros((3, 4), order="F"), "s": nds.zeros(2, STRUCT)}
    (tmp_path / "data.pickle").write_bytes(pickle.dumps(things))
    source = """
    import sys
    sys.modules["ndshare"] = None
    import pickle
    things = pickle.load(open(sys.argv[1], "rb"))
    print(things["x"].shape, things["x"].sum(), things["f"].flags.f_contiguous, things["s"].dtype.names)
    """
    done = run(source, str(tmp_path / "data.pickle"), flags=flags)
    x = things["x"]
    assert done.out.strip() == f"{x.shape} {x.sum()} True ('x', 'y', 'z')"


class Named(np.ndarray[Any, Any]):
    """A subclass of a user; what it keeps beside its items only it knows."""


def test_subclasses_of_users_go_by_value_and_those_of_numpy_by_reference() -> None:
    x = nds.array(np.arange(6.0))
    things: dict[bool, list[Any]] = {
        True: [np.ma.masked_array(x, x > 3), nds.zeros(3, STRUCT).view(np.recarray), x.view(np.matrix)],
        False: [x.view(Named), np.float64(3)],
    }
    for shared, several in things.items():
        for thing in several:
            back = opened(token(thing))
            assert type(back) is type(thing)
            assert nds.is_shared(np.asarray(back)) == shared
            assert np.asarray(back).tobytes() == np.asarray(thing).tobytes()
    with Puppet() as puppet:
        for thing in things[True]:
            back = puppet.do("echo", thing)
            assert type(back) is type(thing)
            assert np.shares_memory(np.asarray(back), np.asarray(thing))


def test_masks_stay_masks() -> None:
    x = np.ma.masked_array(nds.array(np.arange(6.0)), [0, 1, 0, 1, 0, 1], fill_value=9)
    y = opened(token(x))
    assert (y.mask == x.mask).all()
    assert y.fill_value == 9


def test_classes_of_numpy_whose_modules_come_later_go_by_reference() -> None:
    """NumPy imports numpy.ma and numpy.char when they are asked for, which takes longer than all of ndshare does."""
    program = """
    import sys
    import numpy as np
    late = {"numpy.ma", "numpy.char"} - set(sys.modules)
    import ndshare as nds
    assert not late & set(sys.modules), late & set(sys.modules)

    from multiprocessing.reduction import ForkingPickler

    def opened(thing):
        return ForkingPickler.loads(ForkingPickler.dumps(thing))

    x = nds.array(np.arange(6.0))
    assert np.shares_memory(opened(x), x)
    for y in (np.ma.masked_array(x, [0, 1, 0, 1, 0, 1], fill_value=9), nds.zeros(3, "S5").view(np.char.chararray)):
        z = opened([{"y": y}])[0]["y"]
        assert type(z) is type(y) and np.shares_memory(np.asarray(z), np.asarray(y)), type(y)
    assert late & set(sys.modules) == late

    nds.warn_copies()
    assert np.shares_memory(opened(y), y)
    print("ok")
    """
    # NumPy 2.5 warns of it.
    done = run(program, flags=("-W", "ignore:The chararray class:DeprecationWarning"))
    assert done.clean() == "ok\n"


def test_a_pickler_without_reducers_of_its_own_sends_as_before_when_such_a_module_has_come() -> None:
    """It was made by the C class's __init__ alone, and once the new classes were looked for in what it did not have."""
    done = run("""
    import io, pickle
    import ndshare as nds
    import numpy.ma
    from multiprocessing.reduction import ForkingPickler

    class Bare(ForkingPickler):
        def __init__(self, file):
            pickle.Pickler.__init__(self, file)

    file = io.BytesIO()
    Bare(file).dump([1, "two"])
    print(pickle.loads(file.getvalue()))
    """)
    assert done.clean() == "[1, 'two']\n"


def test_a_reducer_of_the_users_stays() -> None:
    """One that was registered for a class of NumPy before we have seen the class is theirs, and no mistake."""
    done = run("""
    import numpy as np
    import ndshare as nds
    from multiprocessing.reduction import ForkingPickler

    ForkingPickler.register(np.ma.MaskedArray, lambda array: (str, ("theirs",)))
    x = np.ma.masked_array(nds.zeros(3), True)
    print(ForkingPickler.loads(ForkingPickler.dumps(x)))
    """)
    assert done.clean() == "theirs\n"


def test_beyond_the_ticket_budget_by_value() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.full(100, 3, np.uint8, arena=arena)
        budget = nds.stats(arena)["ticket_budget"]
        tokens = [token(x) for _ in range(budget)]
        assert len(nds.stats(arena)["tickets"]) == budget
        with pytest.warns(nds.CopyWarning, match="ticket_budget"):
            beyond = opened(token(x))
        assert (beyond == 3).all()
        assert not nds.is_shared(beyond)
        assert np.shares_memory(opened(tokens[0]), x)
        assert np.shares_memory(opened(token(x)), x)
        nds.reclaim(arena=arena)
        assert not nds.stats(arena)["tickets"]
        assert np.shares_memory(opened(token(x)), x)


# ---- tickets --------------------------------------------------------------------------------------------------------


def test_a_ticket_holds_the_block() -> None:
    before = held()
    data = token(shared_pattern(10_000, 4))
    assert held() >= before + 40_000
    x = opened(data)
    assert (x == shared_pattern(10_000, 4)).all()
    assert held() > before
    del x
    assert held() == before


def test_a_second_opening_works_while_anybody_holds_it() -> None:
    x = shared_pattern(100, 1)
    data = token(x)
    first = opened(data)
    second = opened(data)
    assert np.shares_memory(first, second)
    del x, first
    third = opened(data)
    del second, third
    with pytest.raises(nds.Stale, match=r".{20,}"):
        opened(data)


def test_a_holder_in_another_process_is_enough() -> None:
    with Puppet() as puppet:
        puppet.do("make", "x", 50, 2.0)
        data = puppet.do("dumps", "x")
        opened(data)
        assert (opened(data) == 2).all()
        puppet.do("forget", "x")
        with pytest.raises(nds.Stale):
            opened(data)


def test_a_stale_token_never_shows_another_array() -> None:
    data = token(nds.full(1000, 1.0))
    opened(data)
    for i in range(200):
        keep = nds.full(1000, float(i + 2))
        with pytest.raises(nds.Stale):
            opened(data)
        del keep


def test_undelivered_hand_overs_are_listed_and_taken_back() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.zeros(1000, arena=arena)
        data = token(x)
        (ticket,) = nds.stats(arena)["tickets"]
        assert ticket["sender"] == os.getpid()
        assert ticket["sender_alive"] is True
        assert 8000 <= ticket["bytes"] <= 16_000
        assert 0 <= ticket["age_s"] < 60
        assert nds.reclaim(older_than=3600.0, arena=arena) == 0
        assert np.shares_memory(opened(data), x)
        data = token(x)
        del x
        size = held(arena)
        assert size >= 8000
        assert nds.reclaim(arena=arena) == size
        assert held(arena) == 0
        assert not nds.stats(arena)["tickets"]
        with pytest.raises(nds.Stale):
            opened(data)


def test_a_taken_back_hand_over_still_opens_while_held() -> None:
    with nds.Arena("64 MiB") as arena:
        x = nds.zeros(1000, arena=arena)
        data = token(x)
        nds.reclaim(arena=arena)
        assert np.shares_memory(opened(data), x)


def test_a_dead_senders_hand_overs_are_known_as_such() -> None:
    with nds.Arena("64 MiB") as arena:
        with Puppet() as puppet:
            data = puppet.do("dumps_new", MIB, arena)
            sender = puppet.pid
            puppet.kill()
        assert wait_until(lambda: [t["sender_alive"] for t in nds.stats(arena)["tickets"]] == [False])
        assert nds.stats(arena)["tickets"][0]["sender"] == sender
        assert held(arena) >= MIB
        x = opened(data)
        assert not x.any()
        assert x.size == MIB
        del x
        assert held(arena) == 0


def test_before_it_is_full_dead_senders_hand_overs_are_given_up() -> None:
    with nds.Arena("64 MiB") as arena:
        with Puppet() as puppet:
            for _ in range(5):
                puppet.do("dumps_new", 10 * MIB, arena)
            with pytest.raises(nds.ArenaFull):
                nds.zeros(40 * MIB, np.uint8, arena=arena)
            puppet.kill()
        assert nds.zeros(40 * MIB, np.uint8, arena=arena).size == 40 * MIB
        nds.reclaim(arena=arena)


def test_bad_tokens_are_errors_not_crashes() -> None:
    data = token(nds.zeros(100))
    opened(data)
    rng = np.random.default_rng(7)
    for _ in range(1000):
        bad = bytearray(data)
        for _change in range(int(rng.integers(1, 4))):
            bad[int(rng.integers(len(bad)))] = int(rng.integers(256))
        try:
            x = opened(bytes(bad))
            if isinstance(x, np.ndarray) and x.size < MIB and x.dtype != object:
                x.tobytes()
        except Exception:  # any exception will do: a signal will not
            continue
    with pytest.raises((nds.Stale, nds.AttachError)):
        opened(data)


# ---- workers that leave at once -------------------------------------------------------------------------------------

LEAVE = """
import multiprocessing as mp, os, sys

method, rounds, preload = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")

def nothing():
    pass

if __name__ == "__main__":
    context = mp.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(preload)
        first = context.Process(target=nothing)
        first.start()
        first.join()
    assert "ndshare" not in sys.modules
    import gc
    import ndshare as nds, workers
    import numpy as np

    def one_batch(start, count):
        queues = [context.SimpleQueue() if (start + i) % 2 else context.Queue() for i in range(count)]
        processes = []
        for i, queue in enumerate(queues):
            target = workers.put_and_vanish if (start + i) % 2 else workers.put
            processes.append(context.Process(target=target, args=(queue, 1 + 37 * (start + i), start + i)))
            processes[-1].start()
        for i, (process, queue) in enumerate(zip(processes, queues)):
            process.join()
            assert process.exitcode == 0, process.exitcode
            x = queue.get()
            assert nds.is_shared(x) and x.size == 1 + 37 * (start + i) and (x == start + i).all()
            queue.close()

    before = nds.stats()["bytes"]
    for start in range(0, rounds, 4):
        one_batch(start, min(4, rounds - start))
    gc.collect()
    after = nds.stats()
    assert after["bytes"] == before and not after["tickets"], after
    print("done", rounds)
"""


@pytest.mark.parametrize(
    ("start", "rounds", "preload"),
    [
        ("fork", 300, "numpy"),
        ("spawn", 25, "numpy"),  # each a whole interpreter: half a second
        ("forkserver", 100, "numpy"),  # started before ndshare is even imported here
        ("forkserver", 100, "workers"),  # and one that has its own ndshare, and so had its own session
        ("forkserver", 12, "sys"),
    ],
)
@pytest.mark.timeout(600)  # hundreds of interpreters start one after another
def test_a_worker_allocates_sends_and_is_gone(start: str, rounds: int, preload: str) -> None:
    assert run(LEAVE, start, str(rounds), preload, timeout=550).clean().split() == ["done", str(rounds)]


def test_children_whose_ancestors_are_dead(method: str) -> None:
    context = mp.get_context(method)
    ours, theirs = context.Pipe()
    x = nds.zeros(1000)
    process = context.Process(target=workers.grandchildren, args=(3, method, theirs, x))
    process.start()
    process.join(HANG)
    assert ours.poll(HANG)
    pid, session, result = ours.recv()
    assert session == nds.stats()["id"]
    assert (x == 1).all()
    assert (result == 1).all()
    assert nds.is_shared(result)
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert (result == 1).all()


# ---- few descriptors ------------------------------------------------------------------------------------------------

MANY = """
import multiprocessing as mp, os, sys
before = len(os.listdir("/proc/self/fd"))
import numpy as np, ndshare as nds

def sizes():
    return 256 * (1 + np.arange(10_000) * 7919 % 253)  # floats: 1 to 64 KiB

def send(queue):
    for i, n in enumerate(sizes()):
        queue.put(nds.full(n // 2, i, np.float32) if i % 2 else nds.full(n // 4, i, np.float64))
    queue.put(len(os.listdir("/proc/self/fd")))

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=send, args=(queue,))
    quiet = len(os.listdir("/proc/self/fd"))
    process.start()
    kept = [queue.get() for _ in range(10_000)]
    theirs, mine = queue.get(), len(os.listdir("/proc/self/fd"))
    process.join()
    assert process.exitcode == 0
    assert all(nds.is_shared(x) for x in kept)
    for i, (n, x) in enumerate(zip(sizes(), kept)):
        assert x.size == (n // 2 if i % 2 else n // 4) and (x == i).all()
    print(before, mine, theirs, sum(x.nbytes for x in kept))
"""


def test_ten_thousand_arrays_with_64_descriptors(method: str) -> None:
    before, mine, theirs, total = map(int, run(MANY, method, before=limited(NOFILE=64)).clean().split())
    assert total > 200 * MIB
    # The pipe of the queue, the sentinel, and what multiprocessing itself opens are in these figures too.
    assert mine - before <= 16 + 12
    assert theirs <= 16 + 12


def test_sixteen_descriptors_are_ours_at_most() -> None:
    source = """
    import os
    count = lambda: len(os.listdir("/proc/self/fd"))
    import numpy as np
    before = count()
    import ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    keep = [nds.zeros(n) for n in range(2000)]
    keep += [ForkingPickler.loads(ForkingPickler.dumps(x)) for x in keep]
    for _ in range(20):
        if not (pid := os.fork()):
            keep.append(nds.zeros(10))
            os._exit(0)
        os.waitpid(pid, 0)
    nds.stats()
    print(count() - before)
    """
    assert int(run(source).clean()) <= 16


def test_arenas_give_their_descriptors_and_mappings_back() -> None:
    source = """
    import gc, os
    import numpy as np, ndshare as nds
    fds = lambda: len(os.listdir("/proc/self/fd"))
    maps = lambda: open("/proc/self/maps").read().count("memfd:ndshare")
    nds.Arena("1 MiB")
    gc.collect()
    before = fds(), maps()
    for _ in range(100):
        arena = nds.Arena("64 MiB")
        x = nds.ones(10, arena=arena)
        arena.close()
        assert x.sum() == 10
        del arena, x
    gc.collect()
    assert fds() <= before[0] and maps() <= before[1], (before, fds(), maps())
    """
    run(source).clean()


# ---- far away -------------------------------------------------------------------------------------------------------


def test_a_connection_to_another_machine_gets_an_error_that_says_so() -> None:
    source = """
    import sys, numpy as np, ndshare as nds
    from multiprocessing.reduction import ForkingPickler
    x = nds.zeros(1000)
    sys.stdout.write(bytes(ForkingPickler.dumps(x)).hex())
    """
    data = bytes.fromhex(run(source).clean())
    with pytest.raises(nds.AttachError, match=r"machine") as error:
        opened(data)
    assert isinstance(error.value, ConnectionError)
    assert len(str(error.value)) > 40


def test_another_users_session_on_this_machine_can_be_opened_while_it_lives() -> None:
    source = """
    import sys, numpy as np, ndshare as nds
    x = nds.array(np.arange(1000))
    ref = nds.ref(x)
    print(ref, flush=True)
    sys.stdin.read()
    assert x[0] == 42
    """
    command = [sys.executable, str(script(source))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdin
        assert process.stdout
        y = nds.ref(process.stdout.readline().strip()).open()
        assert (y == np.arange(1000)).all()
        y[0] = 42
        process.stdin.close()
        assert process.wait(HANG) == 0
        assert (y[0], y[999]) == (42, 999), "its maker is gone; the bytes are ours as long as we look"


# ---- references -----------------------------------------------------------------------------------------------------


def test_a_ref_goes_through_any_pickler_any_number_of_times() -> None:
    x = shared_pattern((20, 30), 5)
    ref = nds.ref(x[::2, 3:])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(ref, protocol)
        for _ in range(3):
            y = pickle.loads(data).open()
            assert np.shares_memory(y, x)
            assert (y == x[::2, 3:]).all()
            assert y.strides == x[::2, 3:].strides
    assert np.shares_memory(copy.deepcopy(ref).open(), x)


def test_a_ref_is_valid_while_it_lives_in_its_maker() -> None:
    before = held()
    ref = nds.ref(shared_pattern(100, 5))
    text = str(ref)
    assert held() > before
    assert (ref.open() == shared_pattern(100, 5)).all()
    assert (nds.ref(text).open() == shared_pattern(100, 5)).all()
    del ref
    assert held() == before
    with pytest.raises(nds.Stale, match=r".{20,}"):
        nds.ref(text).open()


def test_a_ref_is_valid_while_anyone_holds_the_block() -> None:
    with Puppet() as puppet:  # started first, so that it does not inherit the array
        x = shared_pattern(100, 5)
        text = str(nds.ref(x))
        assert np.shares_memory(nds.ref(text).open(), x)
        puppet.do("keep", "x", x)
        del x
        y = nds.ref(text).open()
        assert (y == shared_pattern(100, 5)).all()
        del y
        puppet.do("forget", "x")
        with pytest.raises(nds.Stale):
            nds.ref(text).open()


def test_a_received_ref_does_not_keep_the_block() -> None:
    ref = nds.ref(shared_pattern(100, 5))
    copy_of_it = pickle.loads(pickle.dumps(ref))
    del ref
    with pytest.raises(nds.Stale):
        copy_of_it.open()


def test_a_ref_in_every_start_method(method: str) -> None:
    x = shared_pattern(1000, 6)
    ref = nds.ref(x)
    with Puppet(method) as puppet:
        for what in (ref, str(ref), ref):
            assert np.shares_memory(puppet.do("open_ref", what), x)


def test_a_ref_as_an_argument_of_a_program() -> None:
    x = shared_pattern(1000, 7)
    ref = nds.ref(x)
    source = """
    import sys, ndshare as nds
    x = nds.ref(sys.argv[1]).open()
    print(x.sum(), x.shape, nds.is_shared(x))
    x[0] = 12345
    """
    expected = f"{x.sum()} {x.shape} True"
    for env in (environment(), dict(os.environ, PYTHONPATH=environment()["PYTHONPATH"])):
        x[0] = shared_pattern(1000, 7)[0]
        assert run(source, str(ref), env=env).clean().strip() == expected
        assert x[0] == 12345


def test_refs_look_sensible() -> None:
    ref = nds.ref(nds.zeros((3, 4)))
    assert "\n" not in repr(ref)
    assert "(3, 4)" in repr(ref)
    assert not set(str(ref)) & set(" \n\t'\"\\$;&|<>*?()"), "a shell must not care"
    assert str(nds.ref(str(ref))) == str(ref)


@pytest.mark.parametrize("bad", ["", "nonsense", "nds1-", "nds1-00-1-2", "a" * 10_000, "nds1-ünï-3"])
def test_strings_that_are_no_references(bad: str) -> None:
    with pytest.raises((ValueError, nds.AttachError), match=r".{15,}"):
        nds.ref(bad).open()


def test_only_shared_arrays_have_references() -> None:
    for thing in (np.zeros(3), [1, 2], 3, None, b"x"):
        with pytest.raises((TypeError, ValueError), match=r".{15,}"):
            nds.ref(thing)  # type: ignore[call-overload]


# ---- arenas ---------------------------------------------------------------------------------------------------------


def test_arenas_are_sent_like_arrays(method: str) -> None:
    with nds.Arena("64 MiB") as arena, Puppet(method) as puppet:
        assert puppet.do("arena_id", arena) == arena.id
        puppet.do("make", "x", 100, 3.0, arena)
        x = puppet.do("give", "x")
        assert nds.is_shared(x)
        assert (x == 3).all()
        assert nds.stats(arena)["blocks"] == 1
        pids = {p["pid"] for p in nds.stats(arena)["participants"]}
        assert {os.getpid(), puppet.pid} <= pids
        puppet.do("forget", "x")
        assert nds.stats(arena)["blocks"] == 1
        del x
        assert held(arena) == 0


def test_an_arena_arrives_once() -> None:
    with nds.Arena("64 MiB") as arena:
        again = pickle.loads(pickle.dumps(arena))
        assert again.id == arena.id
        assert again.budget == arena.budget
        x = nds.zeros(10, arena=again)
        assert nds.stats(arena)["blocks"] == 1
        again.close()
        assert (x == 0).all()
        assert nds.zeros(10, arena=arena) is not None


def test_an_arena_lives_in_whoever_has_it() -> None:
    with nds.Arena("64 MiB") as arena, Puppet() as puppet:
        x = nds.full(1000, 5.0, arena=arena)
        puppet.do("keep", "x", x)
        puppet.do("keep", "arena", arena)
        del x
    with Puppet("spawn") as puppet:
        other = nds.Arena("64 MiB")
        puppet.do("keep", "arena", other)
        other.close()
        del other
        back = puppet.do("give", "arena")
        assert (nds.full(10, 2.0, arena=back) == 2).all()


def test_an_arena_of_the_dead_is_an_attach_error() -> None:
    source = """
    import pickle, ndshare as nds
    arena = nds.Arena("8 MiB")
    print(pickle.dumps(arena).hex())
    """
    data = bytes.fromhex(run(source).clean())
    with pytest.raises(nds.AttachError, match=r".{30,}"):
        pickle.loads(data)


# ---- many at once ---------------------------------------------------------------------------------------------------


def test_a_pipeline_of_processes() -> None:
    context = mp.get_context("fork")
    stages = [context.SimpleQueue() for _ in range(5)]
    processes = [context.Process(target=workers.add_and_pass_on, args=(a, b)) for a, b in itertools.pairwise(stages)]
    for process in processes:
        process.start()
    feeder = threading.Thread(
        target=lambda: [stages[0].put(x) for x in [*(nds.full(100, i) for i in range(500)), None]]
    )
    feeder.start()
    seen = []
    while (x := stages[-1].get()) is not None:
        assert (x == x[0]).all()
        seen.append(int(x[0]))
    feeder.join()
    assert seen == [i + 4 for i in range(500)]
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0


def test_one_array_to_many_processes_at_once() -> None:
    x = shared_pattern(MIB, 9)
    puppets = [Puppet() for _ in range(8)]
    try:
        for puppet in puppets:
            puppet.start("keep", "x", x)
        for puppet in puppets:
            puppet.answer()
            puppet.start("checksum", "x")
        assert len({puppet.answer() for puppet in puppets}) == 1
        size = held()
        del x
        assert held() == size
    finally:
        for puppet in puppets:
            puppet.end()
            puppet.kill()
    settle(0, timeout=0.1)


def test_a_full_queue_drops_nothing() -> None:
    queue: Any = mp.Queue(3)
    kept = [nds.full(10, i) for i in range(3)]
    for x in kept:
        queue.put(x)
    with pytest.raises(queues.Full):
        queue.put(nds.zeros(10), timeout=0.05)
    # All are pickled: the sender has nothing to do any more.
    assert wait_until(lambda: len(nds.stats()["tickets"]) == 3)
    got = [queue.get(timeout=HANG) for _ in range(3)]
    assert all(np.shares_memory(a, b) for a, b in zip(kept, got, strict=True))
    queue.close()
    queue.join_thread()


def test_ticket_environment_does_not_matter() -> None:
    x = shared_pattern(10, 1)
    with environ(NDSHARE_SESSION="garbage"), Puppet("spawn") as puppet:
        assert np.shares_memory(puppet.do("echo", x), x)
