"""Every wait ends when Python has a signal to handle, whenever that came.

Python handles signals in the main thread, between two steps of its own. A signal that comes just before a call goes to
sleep, or comes to another thread, does not wake the call: the wait has to look. `Cache.fetch_many` once slept on, on a
busy machine, and so did what waits in Python here and there. The program here sends the signal to a thread that is not
the main thread, which is the same to whoever sleeps and happens each time.
"""

from __future__ import annotations

import pytest

from helpers import run

PROGRAM = """
import os, signal, threading, time
import numpy as np, ndshare as nds
import workers
import cache_workers
import multiprocessing as mp

FORK = mp.get_context("fork")

def strike():
    # Asleep for a while is inside the wait; should it come early, it is no harder for the wait.
    asleep = 0
    while asleep < 20:
        state = open(f"/proc/self/task/{os.getpid()}/stat").read().rsplit(")", 1)[1].split()[0]
        asleep = asleep + 1 if state == "S" else 0
        time.sleep(0.005)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

def forever(*_):
    time.sleep(1000)

def children_gone():
    for child in mp.active_children():
        child.kill()

BEFORE
try:
    threading.Thread(target=strike, daemon=True).start()
    CALL
except KeyboardInterrupt:
    print("interrupted", flush=True)
    children_gone()
    AFTER
"""

RING = "ring = nds.Ring(8, 'u2', slots=2, when_full='wait')"
READER = f"{RING}\nreader = ring.reader()"
FULL = f"{READER}\nfor _ in 'ab': ring.put(np.zeros(8, 'u2'))"
TAKEN = """
lock = nds.Lock()
threading.Thread(target=lambda: (lock.acquire(), forever()), daemon=True).start()
while not lock.locked(): time.sleep(0.001)
"""
LOADING = """
cache = nds.Cache("1 MiB", load=lambda _: np.zeros(3))
FORK.Process(target=cache_workers.load_for_ever, args=(cache, "x"), daemon=True).start()
while cache.info()["misses"] == 0: time.sleep(0.001)
"""
PIPE = f"{RING}\npipe = nds.pipe(ring.reader(), forever, workers=1, mp_context=FORK)"
POOL = "pool = nds.ProcessPoolExecutor(1, mp_context=FORK)\npool.submit(abs, 1).result()"
RECORDING = f"{RING}\nrecording = nds.record(ring, os.environ['TMPDIR'] + '/x.npy')"
# What is called, after what, and what ends the program then.
WAITS = {
    "Reader.get": ("reader.get()", READER, ""),
    "Reader.get_many": ("reader.get_many(2)", READER, ""),
    "for frame in reader": ("next(iter(reader))", READER, ""),
    "Ring.put": ("ring.put(np.zeros(8, 'u2'))", FULL, ""),
    "Lock.acquire": ("lock.acquire()", TAKEN, ""),
    "Cache.fetch": ("cache.fetch('x')", LOADING, ""),
    "Cache.fetch_many": ("cache.fetch_many(['x', 'y', 'z'])", LOADING, ""),
    "Cache.concatenate": ("cache.concatenate(['x', 'y'])", LOADING, ""),
    "attach": ("nds.attach('nobody has this name')", "", ""),
    "join": ("nds.join([reader, other.reader()]).get()", f"{READER}\nother = nds.Ring(8, 'u2', slots=2)", ""),
    "Pipe.wait": ("pipe.wait()", PIPE, "pipe.close()"),
    "ProcessPoolExecutor.map": ("list(pool.map(forever, [1]))", POOL, "os._exit(0)"),
    "record": ("recording.wait()", RECORDING, "recording.stop()"),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_signal_that_woke_nobody_is_heard(name: str, tmp_path: object) -> None:
    call, before, after = WAITS[name]
    program = PROGRAM.replace("CALL", call).replace("BEFORE", before).replace("AFTER", after)
    assert run(f"import os; os.environ['TMPDIR'] = {str(tmp_path)!r}\n{program}").out.split() == ["interrupted"]
