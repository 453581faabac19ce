"""Root is made to follow another user's session.

A user plants its own session in ``NDSHARE_SESSION``, as ``sudo -E`` and cron jobs pass it on, and its array in the
text of a reference. Root must not map one byte of it: it warns, says whose it is, and has a session of its own.
"""

from __future__ import annotations

import os
import warnings
from multiprocessing.connection import Connection

from common import become_nobody, hear, other, refused, root_only, survives, wait


def plant(line: Connection) -> None:
    import ndshare as nds

    become_nobody()
    arena = nds.Arena("8 MiB")
    array = nds.full(1000, 666, arena=arena)
    line.send((arena.__reduce__()[1][0], arena.id, str(nds.ref(array))))
    wait(line)


def follow(planted: str) -> None:
    """Import with this environment, as a program does that was started with it."""
    os.environ["NDSHARE_SESSION"] = planted
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        import ndshare as nds

        assert nds.zeros(3).sum() == 0
    assert "belongs to uid 65534, and this process is uid 0" in str(said[0].message)
    assert nds.stats()["id"] != theirs
    with refused(nds.AttachError, "belongs to uid 65534"):
        nds.ref(reference).open()


root_only()
with other(plant) as line:
    locator, theirs, reference = hear(line)
    survives(lambda: follow(locator))
    # It says that somebody else has it: a search finds it all the same.
    survives(lambda: follow(locator.rsplit("-", 2)[0] + "-1-0"))
    line.send(None)
print("root has a session of its own, and knows whose the other one is")
