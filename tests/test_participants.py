"""An arena at its full size: 512 processes, a hundred thousand blocks, and what a process beyond that gets."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import ndshare as nds
from helpers import run

CHILDREN = 530  # more than the 512 places that an arena has

CROWD = f"""
import os, sys
import numpy as np, ndshare as nds

kept = nds.full(3000, 7, np.uint16)
reports, go = os.pipe(), os.pipe()
children = []
for _ in range({CHILDREN}):
    pid = os.fork()
    if pid == 0:
        try:
            nds.zeros(10)
            verdict = b"m"                       # a member
        except nds.AttachError:
            verdict = b"g"                       # a guest
        if int(kept[1:].sum()) != 20993: verdict = b"x"
        if verdict == b"g": kept[0] = 8
        os.write(reports[1], verdict)
        os.read(go[0], 1)
        os._exit(0)
    children.append(pid)
verdicts = b"".join(os.read(reports[0], 1) for _ in children)
assert kept[0] == 8, "what a child without a place wrote is lost"
alive = sum(p["alive"] for p in nds.stats()["participants"])
os.write(go[1], b"." * len(children))
for pid in children:
    os.waitpid(pid, 0)
print(verdicts.count(b"m"), verdicts.count(b"g"), verdicts.count(b"x"), alive)
children = [os.fork() for _ in range(1)]
if children == [0]:
    nds.zeros(10)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]), len(nds.stats()["participants"]) <= 2)
"""


@pytest.mark.timeout(180)
def test_512_processes_take_part_and_those_beyond_are_guests() -> None:
    """They used to work on private copies, and what they wrote was lost without a word."""
    done = run(CROWD, timeout=150)
    assert done.code == 0, done
    assert done.err.count("512 living processes take part") == CHILDREN - 511
    assert done.err.count("RuntimeWarning") == CHILDREN - 511
    counts, after = done.out.splitlines()
    # The root is one of the 512.
    assert counts.split() == ["511", str(CHILDREN - 511), "0", "512"]
    assert after == "0 True", "the places of the dead are taken again"


def test_a_hundred_thousand_blocks_live_at_once_and_go() -> None:
    arena = nds.Arena("2 GiB")
    start = time.perf_counter()
    arrays = [nds.empty(16, np.uint8, arena=arena) for _ in range(100_000)]
    for i, array in enumerate(arrays):
        array[:4] = np.frombuffer(i.to_bytes(4, "little"), np.uint8)
    assert nds.stats(arena)["blocks"] == 100_000
    assert all(int.from_bytes(bytes(array[:4]), "little") == i for i, array in enumerate(arrays))
    pid = os.fork()
    if pid == 0:
        os._exit(int(arrays[99_999][0] != 99_999 % 256))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    arrays.clear()
    del array
    assert nds.stats(arena)["blocks"] == 0
    print(f"100,000 blocks made, forked and dropped in {time.perf_counter() - start:.2f} s")
    assert nds.empty(1 << 30, np.uint8, arena=arena).nbytes == 1 << 30


LATE = """
import multiprocessing as mp
import os
import ndshare as nds

def look(queue):
    try:
        queue.put(repr(nds.zeros(10)))
    except nds.AttachError as error:
        queue.put(str(error))

def receive(queue):
    try:
        queue.get().sum()
        os._exit(1)
    except nds.AttachError:
        os._exit(0)

if __name__ == "__main__":
    ready, go = os.pipe(), os.pipe()
    children = []
    for _ in range(511):
        pid = os.fork()
        if pid == 0:
            os.write(ready[1], b".")
            os.read(go[0], 1)
            os._exit(0)
        children.append(pid)
    for _ in children:
        os.read(ready[0], 1)
    context = mp.get_context("spawn")
    queue = context.Queue()
    late = context.Process(target=look, args=(queue,))
    late.start()
    print(queue.get())
    late.join()
    receiver = context.Process(target=receive, args=(queue,))
    receiver.start()
    queue.put(nds.ones(3))
    receiver.join()
    os.write(go[1], b"." * len(children))
    for pid in children:
        os.waitpid(pid, 0)
    soon = context.Process(target=look, args=(queue,))
    soon.start()
    print(len(queue.get()) > 0, late.exitcode, receiver.exitcode)
    soon.join()
"""


@pytest.mark.timeout(180)
def test_a_process_started_when_every_place_is_taken_is_told_so() -> None:
    # A session of its own would seem to work, until the parent looked for what it had sent.
    told, after = run(LATE, timeout=150).clean().splitlines()
    assert "512 living processes take part" in told
    assert after == "True 0 0"


def test_an_arena_of_another_version_is_no_session_of_ours() -> None:
    source = """
    import os, struct, subprocess, sys
    import ndshare as nds
    if sys.argv[1:]:
        print(nds.stats()["id"] != sys.argv[1], int(nds.ones(3).sum()))
    else:
        one = nds.zeros(3)
        _, pid, fd = os.environ["NDSHARE_SESSION"].split(",")[0].rsplit("-", 2)
        os.pwrite(int(fd), struct.pack("<I", 99), 40)
        command = [sys.executable, __file__, nds.stats()["id"]]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    """
    assert run(source).clean().split() == ["True", "3"]


FORKS_DURING_SWEEPS = """
import fcntl, os, signal, struct, threading
import numpy as np, ndshare as nds

kept = [nds.zeros(1, np.uint8) for _ in range(20_000)]   # so that a sweep takes a while
done = threading.Event()

def sweep():
    while not done.is_set():
        nds.reclaim()

sweeper = threading.Thread(target=sweep)
sweeper.start()
living = []
for i in range(120):
    pid = os.fork()
    if pid == 0:
        if i % 2:
            os._exit(0)
        signal.pause()
    if i % 2:
        os.waitpid(pid, 0)
    else:
        living.append(pid)
done.set()
sweeper.join()
nds.reclaim()

name = os.environ["NDSHARE_SESSION"].split(",")[0]
arena = os.open(f"/proc/self/fd/{name.rsplit('-', 1)[1]}", os.O_RDWR)

def is_locked(byte):
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    F_OFD_GETLK = 36
    return struct.unpack("hhqqi4x", fcntl.fcntl(arena, F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK

print(sum(map(is_locked, range(512))) - 1 - len(living))
for pid in living:
    os.kill(pid, signal.SIGKILL)
"""


def test_a_child_forked_during_a_sweep_does_not_get_the_place_of_the_dead() -> None:
    # It would look alive for as long as the child lives: a place lost, and locks that nobody frees.
    # From Python 3.12 on it warns of forks beside threads, which are the point here.
    for _ in range(4):
        assert run(FORKS_DURING_SWEEPS, flags=["-W", "ignore::DeprecationWarning"]).clean().strip() == "0"
