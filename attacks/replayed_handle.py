"""A message is kept and read again: when its array is gone, and when other data are in its place.

A reference in a message is good once. Read again, it may give the array while somebody holds it, and must be
``Stale`` afterwards: the data of whoever has the memory then are not shown to whoever had it before.
"""

from __future__ import annotations

import gc
from multiprocessing.reduction import ForkingPickler

import numpy as np

import ndshare as nds
from common import refused

with nds.Arena("8 MiB") as arena:
    secret = nds.full(100_000, 7, arena=arena)
    address = secret.ctypes.data
    message = bytes(ForkingPickler.dumps(secret))
    text = str(nds.ref(secret))
    first = ForkingPickler.loads(message)
    assert np.shares_memory(first, secret)
    again = ForkingPickler.loads(message)  # it is held still
    assert np.shares_memory(again, secret)
    del first, again, secret
    gc.collect()
    assert nds.stats(arena)["blocks"] == 0, "what was read twice is let go of twice"
    for replay in (lambda: ForkingPickler.loads(message), nds.ref(text).open):
        with refused(nds.Stale):
            replay()
    # The same memory, the same place in the table, other data.
    others = [nds.full(100_000, number, arena=arena) for number in range(8)]
    assert any(other.ctypes.data == address for other in others)
    for replay in (lambda: ForkingPickler.loads(message), nds.ref(text).open):
        with refused(nds.Stale):
            replay()
    del others
print("a handle is good for its own array alone")
