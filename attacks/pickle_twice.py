"""One pickle carries a handle many times, and many processes read it many times at once.

Counts must neither go below what is held, which would free memory under somebody, nor stay above it, which would keep
it for ever.
"""

from __future__ import annotations

import gc
import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

import numpy as np

import ndshare as nds
from common import hear, other, wait

arena = nds.Arena("16 MiB")
array = nds.array(np.arange(10_000), arena=arena)
ring = nds.Ring(10, np.int64, slots=4, arena=arena)
message = bytes(ForkingPickler.dumps([array, array, array[::2], ring, {"again": [array, ring]}]))


def read(line: Connection) -> None:
    for _ in range(30):
        got = ForkingPickler.loads(message)
        assert all(np.shares_memory(got[0], part) for part in (got[1], got[2], got[4]["again"][0]))
        del got
    line.send(ForkingPickler.loads(message)[2].sum())
    wait(line)
    # It ends with what it has, as a killed one does.
    os._exit(0)


blocks = nds.stats(arena)["blocks"]
with other(read) as a, other(read) as b:
    for line in (a, b):
        assert hear(line) == array[::2].sum()
    assert (array == np.arange(10_000)).all()
    for line in (a, b):
        line.send(None)
nds.reclaim(0)
assert nds.stats(arena)["blocks"] == blocks
assert nds.stats(arena)["tickets"] == []
del array, ring
gc.collect()
assert nds.stats(arena)["blocks"] == 0
print("read 62 times, counted once")
