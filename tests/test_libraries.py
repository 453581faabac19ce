"""Libraries that take arrays: what the pages in `docs/with` say, where their examples cannot show it.

Each test is skipped by name where its library is not installed.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import environment, run
from ndshare.zarr import cached
from test_docs import ROOT, examples_of

NUMPY = tuple(map(int, np.__version__.split(".")[:2]))


def frame_of(array: np.ndarray) -> np.ndarray:
    ring = nds.Ring(array.shape, array.dtype, slots=2)
    frames = ring.reader()
    ring.put(array)
    return frames.get(timeout=5)


# ---- buffers that others look at -------------------------------------------------------------------------------------


@pytest.mark.skipif(NUMPY < (2, 1), reason="NumPy 2.0 exports no read-only arrays by DLPack")
def test_frames_go_by_dlpack_and_stay_read_only() -> None:
    frame = frame_of(np.arange(6, dtype=np.uint16).reshape(2, 3))
    seen = np.from_dlpack(frame)
    assert nds.is_shared(seen)
    assert np.shares_memory(seen, frame)
    assert not seen.flags.writeable


def test_torch_looks_at_frames_without_a_copy_and_without_a_warning() -> None:
    torch = pytest.importorskip("torch")
    frame = frame_of(np.arange(6, dtype=np.uint16).reshape(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.from_dlpack(frame)
    assert nds.is_shared(tensor)
    assert tensor.data_ptr() == frame.ctypes.data
    assert tensor.numpy().tolist() == frame.tolist()


def test_arrow_arrays_and_buffers_look_at_shared_memory_and_keep_it() -> None:
    pa = pytest.importorskip("pyarrow")
    column = nds.array(np.arange(1000.0))
    arrow = pa.array(column)
    assert arrow.buffers()[1].address == column.ctypes.data
    assert np.shares_memory(arrow.to_numpy(), column)
    assert nds.is_shared(arrow)
    frame = frame_of(np.arange(6, dtype=np.uint16).reshape(2, 3))
    assert pa.py_buffer(frame).address == frame.ctypes.data
    assert nds.is_shared(pa.Tensor.from_numpy(frame).to_numpy())
    assert not nds.is_shared(pa.array(column[::2]).to_numpy()), "the page says that it is a copy"
    del column
    assert arrow[999].as_py() == 999


def test_polars_columns_look_at_shared_memory_and_keep_it() -> None:
    pl = pytest.importorskip("polars")
    column = nds.array(np.arange(1000.0))
    series = pl.Series("x", column)
    assert np.shares_memory(series.to_numpy(allow_copy=False), column)
    table = nds.zeros((100, 3), order="F")
    assert np.shares_memory(pl.from_numpy(table)["column_1"].to_numpy(allow_copy=False), table)
    del column
    assert series[999] == 999


# ---- zarr ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def zarr() -> Any:
    return pytest.importorskip("zarr", minversion="3.1")


def prototype() -> Any:
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype()


def as_value(data: bytes) -> Any:
    return prototype().buffer.from_bytes(data)


def read(store: Any, key: str, byte_range: Any = None) -> bytes | None:
    found = asyncio.run(store.get(key, prototype(), byte_range))
    return None if found is None else found.to_bytes()


def test_zarr_reads_each_chunk_once_and_writes_through(zarr: Any, tmp_path: Path) -> None:
    images = zarr.create_array(tmp_path, shape=(40, 40), chunks=(10, 10), dtype="u2", fill_value=7)
    images[:20] = np.arange(800, dtype=np.uint16).reshape(20, 40)
    cache = nds.Cache("8 MiB")
    ours = zarr.open_array(cached(zarr.storage.LocalStore(tmp_path), cache), mode="r+")
    for _ in range(2):
        assert (ours[:] == images[:]).all()
    assert cache.info()["loads"] == 9, "zarr.json, and 8 chunks that are there"
    ours[0, 0] = 9
    assert images[0, 0] == ours[0, 0] == 9
    ours[:20] = 7  # the fill value: zarr deletes these chunks
    assert (ours[:] == 7).all()
    assert (images[:] == 7).all()


def test_zarr_reads_shards(zarr: Any, tmp_path: Path) -> None:
    cache = nds.Cache("8 MiB")
    store = cached(zarr.storage.LocalStore(tmp_path), cache)
    ours = zarr.create_array(store, shape=(40, 40), chunks=(5, 5), shards=(20, 20), dtype="u2")
    for value in (1, 2):
        ours[:] = value
        assert (ours[:] == value).all()
        assert (ours[3:7, 3:7] == value).all()


def test_a_stored_value_is_given_as_it_lies_in_the_cache(zarr: Any) -> None:
    memory = zarr.storage.MemoryStore()
    store = cached(memory, nds.Cache("8 MiB"))
    asyncio.run(store.set("a", as_value(bytes(range(100)))))
    array = asyncio.run(store.get("a", prototype())).as_numpy_array()
    assert nds.is_shared(array)
    assert not array.flags.writeable
    assert array.tolist() == list(range(100))


def test_parts_are_those_of_the_store_beneath(zarr: Any) -> None:
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

    memory = zarr.storage.MemoryStore()
    store = cached(memory, nds.Cache("8 MiB"))
    asyncio.run(store.set("a", as_value(bytes(range(100)))))
    ranges = [RangeByteRequest(3, 7), OffsetByteRequest(90), SuffixByteRequest(5), SuffixByteRequest(500)]
    for whole_is_there in (False, True):
        if whole_is_there:
            read(store, "a")
        assert [read(store, "a", part) for part in ranges] == [read(memory, "a", part) for part in ranges]


def test_what_is_deleted_is_gone(zarr: Any) -> None:
    store = cached(zarr.storage.MemoryStore(), nds.Cache("8 MiB"))

    def fill() -> None:
        for key in ("a", "b/c", "b/d"):
            asyncio.run(store.set(key, as_value(b"x")))
            assert read(store, key) == b"x"

    fill()
    asyncio.run(store.delete("a"))
    assert [read(store, key) for key in ("a", "b/c")] == [None, b"x"]
    asyncio.run(store.delete_dir("b"))
    assert [read(store, key) for key in ("b/c", "b/d")] == [None, None]
    fill()
    asyncio.run(store.clear())
    assert [read(store, key) for key in ("a", "b/c")] == [None, None]
    asyncio.run(store._set_many([("a", as_value(b"y")), ("e", as_value(b"z"))]))
    assert [read(store, key) for key in ("a", "e")] == [b"y", b"z"]


def slow_store(zarr: Any, before: Callable[[], None]) -> Any:
    """Return a store that has found a value, and then takes its time."""

    class Slow(zarr.storage.WrapperStore):  # type: ignore[misc]
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            found = await self._store.get(key, prototype, byte_range)
            await asyncio.to_thread(before)
            return found

    return Slow(zarr.storage.MemoryStore())


def test_a_read_that_began_before_a_write_leaves_nothing_old_in_the_cache(zarr: Any) -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(30)

    store = cached(slow_store(zarr, wait), nds.Cache("8 MiB"))
    asyncio.run(store.set("a", as_value(b"old")))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(read, store, "a")
        assert began.wait(30)
        asyncio.run(store.set("a", as_value(b"new")))
        go_on.set()
        assert first.result(30) in {b"old", b"new"}
    assert read(store, "a") == b"new"


def test_errors_of_the_store_are_its_own(zarr: Any) -> None:
    def fail() -> None:
        raise PermissionError("no bucket")

    store = cached(slow_store(zarr, fail), nds.Cache("8 MiB"))
    for _ in range(2):
        with pytest.raises(PermissionError, match="no bucket"):
            read(store, "a")


def test_stores_in_one_cache_are_told_apart(zarr: Any) -> None:
    cache = nds.Cache("8 MiB")
    stores = [cached(zarr.storage.MemoryStore(), cache, name) for name in ("one", "two")]
    for number, store in enumerate(stores):
        asyncio.run(store.set("a", as_value(bytes([number]))))
    assert [read(store, "a") for store in stores] == [b"\0", b"\1"]


def test_folders_of_one_relative_path_are_told_apart(
    zarr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = nds.Cache("8 MiB")
    for number in range(2):
        (tmp_path / str(number) / "images").mkdir(parents=True)
        (tmp_path / str(number) / "images" / "a").write_bytes(bytes([number]))
        monkeypatch.chdir(tmp_path / str(number))
        for store in (
            zarr.storage.LocalStore("images"),
            zarr.storage.WrapperStore(zarr.storage.LocalStore("images")),
            zarr.storage.LocalStore(tmp_path / str(number) / "images"),
        ):
            assert read(cached(store, cache), "a") == bytes([number])
    assert cache.info()["loads"] == 4, "a whole path and a relative one are the same folder"


def test_what_is_no_store_or_no_cache_is_refused_at_once(zarr: Any) -> None:
    cache, store = nds.Cache("8 MiB"), zarr.storage.MemoryStore()
    for wrong in ("folder", zarr.create_array(store, shape=(2,), dtype="u1"), {}, None):
        with pytest.raises(TypeError, match="expected a store of zarr's"):
            cached(wrong, cache)
    with pytest.raises(TypeError, match=r"expected an ndshare\.Cache.*got '64 MiB'"):
        cached(store, "64 MiB")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one cache is enough"):
        cached(zarr.storage.WrapperStore(cached(store, cache)), nds.Cache("8 MiB"))


def test_stores_that_need_each_other_have_threads_of_their_own(zarr: Any) -> None:
    beneath = cached(zarr.storage.MemoryStore(), nds.Cache("8 MiB"))
    asyncio.run(beneath.set("a", as_value(b"x")))

    class Above(zarr.storage.MemoryStore):  # type: ignore[misc]
        async def get(self, *given: Any) -> Any:
            return await beneath.get("a", *given[1:])

    async def many() -> list[Any]:
        above = cached(Above(), nds.Cache("8 MiB"))
        return await asyncio.wait_for(asyncio.gather(*(above.get(str(n), prototype()) for n in range(80))), 20)

    assert len(asyncio.run(many())) == 80


def test_a_store_that_does_not_answer_holds_up_neither_others_nor_the_end(zarr: Any) -> None:
    source = """
    import asyncio, os, signal, threading, zarr
    import ndshare as nds
    from ndshare.zarr import cached
    from zarr.core.buffer import default_buffer_prototype as prototype

    class Hung(zarr.storage.MemoryStore):
        hangs = True
        async def get(self, *given):
            if self.hangs:
                await asyncio.sleep(3600)
            return await super().get(*given)

    beneath = Hung()
    store = cached(beneath, nds.Cache("8 MiB"))
    asyncio.run(store.set("a", prototype().buffer.from_bytes(b"x")))
    for closes in (True, False):
        loop, beneath.hangs = asyncio.new_event_loop(), True
        task = loop.create_task(store.get("a", prototype()))
        loop.run_until_complete(asyncio.sleep(0.1))
        if closes:
            loop.close()
        beneath.hangs = False
        print(asyncio.run(store.get("a", prototype())).to_bytes().decode())
        asyncio.run(store.set("a", prototype().buffer.from_bytes(b"y")))
    beneath.hangs = True
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        zarr.core.sync.sync(store.get("a", prototype()))
    except KeyboardInterrupt:
        print("Ctrl-C")
    """
    done = run(source, timeout=20)
    assert (done.code, done.out) == (0, "x\ny\nCtrl-C\n"), done.err


def test_a_store_goes_through_any_pickler_with_its_cache(zarr: Any, tmp_path: Path) -> None:
    cache = nds.Cache("8 MiB")
    store = cached(zarr.storage.LocalStore(tmp_path), cache)
    asyncio.run(store.set("a", as_value(b"x")))
    read(store, "a")
    other = pickle.loads(pickle.dumps(store))
    assert read(other, "a") == b"x"
    assert other == store
    assert cache.info()["loads"] == 1
    for method in ("fork", "spawn"):
        source = f"""
        import asyncio, multiprocessing as mp, zarr
        import ndshare as nds
        from ndshare.zarr import cached

        def total(store, answers):
            answers.put(int(zarr.open_array(store, mode="r")[:].sum()))

        if __name__ == "__main__":
            context = mp.get_context("{method}")
            zarr.create_array({str(tmp_path / method)!r}, data=nds.ones((20, 20)), chunks=(10, 10))
            cache = nds.Cache("8 MiB")
            store = cached(zarr.storage.LocalStore({str(tmp_path / method)!r}), cache)
            assert zarr.open_array(store, mode="r")[:].sum() == 400
            loads, answers = cache.info()["loads"], context.Queue()
            for _ in range(2):
                context.Process(target=total, args=(store, answers)).start()
            print(answers.get(), answers.get(), cache.info()["loads"] - loads)
        """
        done = run(source)
        assert done.out == "400 400 0\n", done.err


def test_zarr_is_imported_when_it_is_used() -> None:
    done = run("import sys, ndshare.zarr; print('zarr.storage' in sys.modules)")
    assert done.out == "False\n", done.err


# ---- Jupyter ---------------------------------------------------------------------------------------------------------


def test_the_page_on_jupyter_runs_as_a_notebook() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("joblib")
    programs = examples_of("jupyter", (ROOT / "docs" / "with" / "jupyter.md").read_text())
    assert len(programs) == 2
    cells = [nbformat.v4.new_code_cell(program.code) for program in programs]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    for program, cell in zip(programs, book.cells, strict=True):
        told = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        assert told == program.output, cell.outputs


# ---- rings in windows of others --------------------------------------------------------------------------------------


def frames_of(ring: nds.Ring, *values: int) -> None:
    for value in values:
        ring.put(np.full(ring.shape, value, np.uint16))


def test_a_layer_of_napari_follows_a_ring_until_it_is_removed() -> None:
    components = pytest.importorskip("napari.components")
    from ndshare.napari import live

    ring, viewer = nds.Ring((4, 5), np.uint16, slots=4, when_full="drop_oldest"), components.ViewerModel()
    shown = live(viewer, ring, name="camera", contrast_limits=(0, 9))
    assert (shown.layer, shown.update()) == (None, False), "there is no frame yet"
    frames_of(ring, 1, 2)
    assert shown.update()
    assert (viewer.layers["camera"].data[0, 0], shown.update()) == (2, False)
    ring.put(np.zeros((4, 5), np.uint16))
    viewer.layers.clear()
    assert not shown.update()
    assert shown.closed
    assert not ring.stats()["readers"], "it reads no more"
    again = live(viewer, ring)
    ring.close()
    while again.update():
        pass
    assert again.closed
    with pytest.raises(TypeError, match="expected a Ring"):
        live(viewer, np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(nds.Timeout):
        live(viewer, "nobody-has-this-name")


NDV = """
import sys
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
import ndshare as nds
from ndshare.ndv import live

application = QApplication([])
ring = nds.Ring(dtype=np.uint16, slots=8)
shown = live(ring, rate=100)
seen = []
sizes = [(4, 5), (4, 5), (7, 9), None]

def step():
    if seen and not np.array_equal(shown.viewer.data, seen[-1]):
        return
    assert not seen or nds.is_shared(shown.viewer.data)
    size = sizes.pop(0) if sizes else False
    if size:
        seen.append(np.full(size, len(seen) + 1, np.uint16))
        ring.put(seen[-1])
    elif size is None:
        ring.close()
    elif shown.closed:
        application.quit()

steps = QTimer()
steps.timeout.connect(step)
steps.start(20)
application.exec()
print(len(seen), shown.viewer.data.shape)
"""


def test_a_viewer_of_ndv_follows_a_ring_in_qt() -> None:
    for package in ("ndv", "vispy", "PySide6"):
        pytest.importorskip(package)
    done = run(NDV, env=environment() | {"QT_QPA_PLATFORM": "offscreen", "PYTHONWARNINGS": "ignore"})
    assert done.out.endswith("3 (7, 9)\n"), done.err
