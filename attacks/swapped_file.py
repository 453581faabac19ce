"""A user swaps a file that it has mapped for a pipe while root lists arenas.

``ndshare ls`` looks at the first bytes of files that processes have mapped, to find arenas on a path. A pipe that is
opened to be read waits for a writer, for ever. Between the look at what it is and the opening it can become one: the
list must come all the same.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from common import hear, libc, other, root_only, survives
from ndshare import _native

LONG = 1.5  # seconds of looking


def swap(line: Connection) -> None:
    """Have the file mapped and not open, and swap it until told to end."""
    pages = libc.mmap
    pages.restype = ctypes.c_void_p
    with file.open("w+b") as opened:
        opened.write(bytes(4096))
        opened.flush()
        assert pages(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, opened.fileno(), 0)
    os.mkfifo(pipe)
    line.send("mapped")
    while not line.poll(0):
        for _ in range(1000):
            libc.renameat2(-100, bytes(file), -100, bytes(pipe), 2)  # RENAME_EXCHANGE


def look() -> None:
    nothing = os.open("/dev/null", os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        _native.run_command(["ndshare", "ls"])


root_only()
folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
folder.chmod(0o777)
file, pipe = folder / "file", folder / "pipe"
with other(swap, is_nobody=True) as line:
    hear(line)
    try:
        survives(look)
    finally:
        line.send("end")
shutil.rmtree(folder)
print("each list came")
