"""Every object used by eight threads at once, while the interpreter lets go of each of them all the time.

Each program runs in a process of its own: threads change every microsecond, garbage is collected at every allocation,
and destructors call back into ndshare, so Python runs at every place where it can. A lock of ours that is held at such
a place stops the program for ever; faulthandler then prints where, and the test fails by name. Results are checked,
too.
"""

import textwrap

import pytest

from helpers import HANG, run

COMMON = f"""
import faulthandler
faulthandler.enable()
faulthandler.dump_traceback_later({HANG}, exit=True)
"""

PRELUDE = """
import gc, sys, threading, time
import numpy as np, ndshare as nds

DTYPES = ["u1", "<u2", "f4", "M8[ns]", ">i4", "c16", [("a", "f4"), ("b", "u1")], [("x", [("y", "i2")]), ("z", "S3")]]
SHAPES = [(5,), (2, 3), (3, 1, 2), (4, 4)]


def filled(number, make=nds.zeros):
    array = make(SHAPES[number % 4], DTYPES[number % 8])
    array.view("u1")[...] = number % 251
    return array


def check(array, number):
    assert array.shape == SHAPES[number % 4] and array.dtype == np.dtype(DTYPES[number % 8]), (array, number)
    assert (np.ascontiguousarray(array).view("u1") == number % 251).all(), (array, number)


class Threads:
    def __init__(self, work, callback, seconds=1.5):
        self.work, self.callback, self.errors, self.rounds, self.called = work, callback, [], [0] * 8, 0
        gc.freeze()
        gc.set_threshold(1)
        sys.setswitchinterval(1e-6)
        self.end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.loop, args=(i,)) for i in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        gc.set_threshold(700, 10, 10)
        sys.setswitchinterval(0.005)
        gc.collect()
        if self.errors: raise self.errors[0]
        assert min(self.rounds) >= 3 and self.called >= 3, (self.rounds, self.called)

    def loop(self, i):
        try:
            while not self.errors and (time.monotonic() < self.end or self.rounds[i] < 3):
                Litter(self)
                self.work(i, self.rounds[i])
                self.rounds[i] += 1
        except BaseException as error:
            self.errors.append(error)


class Litter:
    def __init__(self, threads):
        self.threads, self.cycle = threads, self

    def __del__(self):
        try:
            self.threads.callback()
            self.threads.called += 1
        except BaseException as error:
            self.threads.errors.append(error)

"""

ARRAYS = """
arena = nds.Arena("64 MiB")

def work(i, n):
    a = filled(i + n)
    text = str(nds.ref(a))
    check(nds.ref(text).open(), i + n)
    b = nds.array(a)
    check(b, i + n)
    assert nds.is_shared(b) and not nds.is_shared(np.zeros(3))
    check(filled(n, lambda *args: nds.empty(*args, arena=arena)), n)
    if n % 8 == 0:
        assert nds.stats()["blocks"] >= 2, nds.stats()

Threads(work, lambda: filled(3))
"""

QUEUES = """
import multiprocessing as mp
queues = [mp.SimpleQueue() for _ in range(8)]

def work(i, n):
    # Of each thread's own queue all comes back in order; pickling and opening are everybody's.
    queues[i].put((filled(n), nds.Lock()))
    array, lock = queues[i].get()
    check(array, n)
    assert nds.is_shared(array) and lock.acquire(blocking=False)
    lock.release()

Threads(work, lambda: nds.is_shared(filled(1)))
"""

RINGS = """
ring = nds.Ring(slots=16, meta=[("n", "i8")], name="r")
shared, latest = ring.reader(), ring.reader(latest=True)
group = [ring.reader(group="g") for _ in range(2)]
written, got = [[] for _ in range(8)], {"shared": [[] for _ in range(8)], "group": [[] for _ in range(8)]}

def receive(reader, into):
    try: frame = reader.get(timeout=0.002)
    except nds.Timeout: return
    number = int(frame.meta["n"])
    assert frame.meta is frame.meta
    check(frame, number)
    if into is not None: into.append(frame.seq)

def work(i, n):
    number = 8 * n + i
    if i < 2:
        try:
            with ring.write(SHAPES[number % 4], DTYPES[number % 8], timeout=0.01) as frame:
                frame.view("u1")[...] = number % 251
                frame.meta["n"] = number
            written[i].append(frame.seq)
        except nds.Timeout: pass
    elif i == 2:
        try: written[i].append(ring.put(filled(number), timeout=0.01, n=number))
        except nds.Timeout: pass
    elif i < 5: receive(shared, got["shared"][i])
    elif i == 5: receive(latest, None)
    else: receive(group[i - 6], got["group"][i])

def callback():
    repr(ring), repr(shared), ring.stats()

Threads(work, callback)
for name, readers in (("shared", [shared]), ("group", group)):
    for reader in readers:
        while True:
            try: got[name][0].append(reader.get(timeout=0).seq)
            except nds.Empty: break
    assert sorted(sum(got[name], [])) == sorted(sum(written, [])) == list(range(sum(map(len, written)))), name
assert len(sum(written, [])) >= 3
"""

CACHES = """
def load(key):
    if key > 2 and key % 5 == 0:
        check(cache[key - 1], key - 1)
    if key % 13 == 12: raise LookupError(key)
    return filled(key, nds.zeros if key % 2 else np.zeros)

cache = nds.Cache("64 KiB", load, entries=16)

def work(i, n):
    key = (5 * n + i) % 60
    try: check(cache[key], key)
    except (LookupError, nds.LoadError): assert key % 13 == 12 or key % 5 == 0
    cache[("own", i)] = filled(i)
    check(cache.fetch(("own", i), lambda key: filled(key[1])), i)
    if n % 8 == 0:
        for key, value in zip((1, 2, 3), cache.fetch_many([1, 2, 3], workers=2)): check(value, key)
        list(cache), len(cache), cache.info(), ("own", 9) in cache

def callback():
    repr(cache), cache.get(3), cache.info()

Threads(work, callback)
"""

LOCKS = """
lock, a, b, c = nds.Lock(), nds.zeros(1, "i8"), nds.zeros(1, "i8"), nds.zeros(1, "i8")
overlay = nds.Overlay(floats={"A": ((8, 4), "f4")}, ints={"B": ((8, 2), "i8"), "C": (3, "u1")})
both = nds.locked(b, c)

def work(i, n):
    with lock: a[0] = a[0] + 1
    with nds.locked(c, b, timeout=30):
        b[0], c[0] = b[0] + 1, c[0] - 1
        assert b[0] == -c[0]
    name, field = (("floats", "A"), ("ints", "B"))[n % 2]
    with overlay.use(name, timeout=30) as v:
        v[field][i] = n
        assert (v[field][i] == n).all()

def callback():
    repr(lock), lock.locked(), repr(both), repr(overlay), nds.locked(a)

threads = Threads(work, callback)
assert a[0] == b[0] == -c[0] == sum(threads.rounds)
"""

GATHER = """
cache = nds.Cache("4 MiB", lambda key: np.full((4, 4), key, "u1"))
common = nds.Canvas((4, 16), "f4")
mine = [nds.Canvas((4, 16), "f4") for _ in range(8)]

def work(i, n):
    keys = [(n + k) % 9 for k in range(4)]
    cache.concatenate(keys, axis=1, out=mine[i])
    assert (mine[i].array[0, ::4] == keys).all()
    nds.concatenate([cache[key] for key in reversed(keys)], axis=1, out=mine[i], casting="unsafe")
    assert (mine[i].array[3, ::4] == keys[::-1]).all()
    nds.concatenate([cache[key] for key in keys], axis=1, out=common, casting="unsafe")
    with nds.locked(common.array, timeout=30):
        first = common.array[:, ::4].copy()
    assert ((first[0] - first[0, 0]) % 9 == np.arange(4)).all() and (first == first[0]).all(), first
    parts = [filled(8 * k) for k in (n, n + 4)]
    assert nds.is_shared(nds.stack(parts)) and nds.is_shared(nds.block([[np.ones(2)], [np.zeros(2)]]))
    assert mine[i].array is mine[i].array

def callback():
    repr(common), cache.get(1), nds.concatenate([np.ones(2), nds.ones(2)])

Threads(work, callback)
"""

FFT = """
rng = np.random.default_rng(1)
inputs = [(100 * rng.random(shape)).astype(dtype) for shape in ((8, 12), (5, 7), (130, 60)) for dtype in
          ("u1", "f2", ">f2", "f4", "f8", ">f8", "g", "u2")]
expected = [np.fft.rfft2(x.astype("f8")) for x in inputs]
plan = nds.fft.plan_rfft2((130, 60), "u2", "complex64")
blur = plan.convolve(np.ones((1, 1)))
spectrum = nds.fft.rfft2(inputs[-1], dtype="complex64")

def work(i, n):
    which = (i + n) % len(inputs)
    result = nds.fft.rfft2(inputs[which])
    assert np.linalg.norm(result - expected[which]) <= 1e-5 * np.linalg.norm(expected[which])
    back = nds.fft.irfft2(result, s=inputs[which].shape)
    assert np.linalg.norm(back - inputs[which]) <= 2e-5 * np.linalg.norm(inputs[which].astype("f8"))
    assert (plan(inputs[-1]) == spectrum).all()
    assert np.abs(blur(inputs[-1]) - inputs[-1]).max() < 1e-2
    line = nds.fft.fft(np.ones(i + n % 97 + 1))
    assert abs(line[0] - len(line)) < 1e-9

Threads(work, lambda: nds.fft.fft([1, 2, 3]))
"""

ALLOCATING = """
def work(i, n):
    with nds.allocating(min_bytes=256) as scope:
        a = np.full((20, 20), float(n))
        b = a * 2
        objects = np.zeros(100, object)
        repr(scope), scope.arrays
    assert nds.is_shared(a) and nds.is_shared(b) and (b == 2 * n).all() and (objects == 0).all()

def callback():
    # Not another scope: NumPy alone does not survive a destructor that sets its handler while a thread is setting it.
    repr(outer), np.ones(1000), nds.ones(1000)

outer = nds.allocating()
Threads(work, callback)
"""

PROGRAMS = {
    "arrays": ARRAYS,
    "queues": QUEUES,
    "rings": RINGS,
    "caches": CACHES,
    "locks": LOCKS,
    "gather": GATHER,
    "fft": FFT,
    "allocating": ALLOCATING,
}


def parts_of(name: str) -> str:
    return COMMON + PRELUDE + textwrap.dedent(PROGRAMS[name]) + '\nprint("done")\n'


@pytest.mark.parametrize("name", PROGRAMS)
def test_eight_threads_and_their_garbage(name: str) -> None:
    """Four threads in one reader stopped for ever: its cache of layouts was locked while NumPy made a dtype."""
    assert run(parts_of(name)).clean() == "done\n"
