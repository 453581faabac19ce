"""An arena on a path is cut: before it is opened, while it is looked at, while it is used.

Its file has no seal. Who opens it or needs memory must be told (``Poisoned``), and a look from outside must not end
by a signal. Whoever touches bytes that are gone ends by SIGBUS: that is documented, and only its own user can cut the
file.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import ndshare as nds
from common import refused, survives
from ndshare import _native

folder = Path(tempfile.mkdtemp())
path = folder / "a.nds"
with nds.Arena("16 MiB", path=path) as arena:
    arena.publish("x", nds.ones(100_000, arena=arena))
whole = path.stat().st_size
kept = path.open("rb").read(64 << 20)


def restore() -> None:
    path.write_bytes(kept)
    os.truncate(path, whole)


def look() -> None:
    """Look from outside, over and over, while the file is cut and grows."""
    over = threading.Event()

    def cut() -> None:
        while not over.is_set():
            for length in (4096, whole // 2, 0x2C00000, whole):
                os.truncate(path, length)

    thread = threading.Thread(target=cut)
    thread.start()
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.dup2(1, 2)
    for _ in range(20):
        _native.run_command(["ndshare", "check", str(path)])
        _native.run_command(["ndshare", "ls", "--json"])
    over.set()
    thread.join()


def opened(length: int) -> None:
    os.truncate(path, length)
    with refused((nds.Poisoned, ValueError)), nds.Arena(path=path) as cut:
        cut.attach("x").sum()
    restore()


for length in (0, 1, 4096, 0x9000, 0xA09000, whole // 2, whole - 4096, whole + 4096):
    survives(lambda length=length: opened(length))
survives(look)
restore()


def used() -> None:
    with nds.Arena(path=path) as arena:
        os.truncate(path, whole - 4096)
        with refused(nds.Poisoned, "another program changed its length"):
            nds.zeros(100_000, arena=arena)


survives(used)
for file in folder.iterdir():
    file.unlink()
folder.rmdir()
print("told each time")
