"""A process of the same user locks all bytes of an arena's file, by which others tell who is alive.

Then the dead seem to live, and nobody new finds a place. Whoever is there goes on; whoever comes is told; nobody
hangs.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import warnings
from multiprocessing.connection import Connection

import ndshare as nds
from common import hear, other, refused, survives, wait

arena = nds.Arena("16 MiB")
array = nds.full(1000, 7, arena=arena)


def steal(line: Connection) -> None:
    victim = os.getppid()
    for fd in range(1000, 1020):
        link = f"/proc/{victim}/fd/{fd}"
        if os.path.lexists(link) and os.readlink(link).startswith(f"/memfd:ndshare:{arena.id} "):
            file = os.open(link, os.O_RDWR)
            break
    taken = 0
    for byte in range(512):
        try:  # F_OFD_SETLK; those who live have theirs
            fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
            taken += 1
        except OSError:
            pass
    line.send(taken)
    wait(line)
    os._exit(0)


def come() -> None:
    """Come as a new program does."""
    source = f"import ndshare as nds; nds.ref({reference!r}).open()"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "AttachError" in done.stderr.splitlines()[-1], done.stderr


reference = str(nds.ref(array))
with other(steal) as line:
    assert hear(line) >= 500
    with warnings.catch_warnings():
        # The fork gets no place either, and says so.
        warnings.simplefilter("ignore")
        survives(come)
    for _ in range(100):
        assert nds.zeros(1000, arena=arena).sum() == 0
    with nds.locked(array, timeout=5):
        array += 1
    with refused(nds.Timeout):
        nds.attach("nobody publishes this", timeout=0)
    line.send(None)
# The thief is gone, and everything is as it was.
source = f"import ndshare as nds; assert nds.ref({reference!r}).open()[0] == 8"
subprocess.run([sys.executable, "-c", source], check=True)
print("nobody hung, and whoever came was told")
