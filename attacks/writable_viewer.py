"""A viewer that attached to read only tries to write what it sees.

Not by flags, which NumPy guards, but by pointers, ``mprotect``, ``/proc/self/mem`` and ``process_vm_writev``: a bug
in a viewer must not spoil the data of those who work with them. The memory of arrays is mapped so that none of this
can write; a write through a pointer ends the viewer alone.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import tempfile
from multiprocessing.connection import Connection

import numpy as np

from common import SECONDS, hear, libc, other, refused, wait

os.environ["XDG_RUNTIME_DIR"] = runtime = tempfile.mkdtemp()


def offer(line: Connection) -> None:
    import ndshare as nds

    array = nds.array(np.arange(1000))
    nds.publish("x", array)
    line.send("published")
    wait(line)
    assert (array == np.arange(1000)).all(), "something was written"
    assert nds.unpublish("x")


def write_by_pointer(address: int) -> int:
    """Return the signal that ended a fork which wrote."""
    pid = os.fork()
    if pid == 0:
        ctypes.memset(address, 1, 8)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


with other(offer) as line:
    hear(line)
    import ndshare as nds

    array = nds.attach("x", readonly=True, timeout=SECONDS)
    address = array.ctypes.data
    with refused(ValueError):
        array.setflags(write=True)
    with refused(ValueError):
        array[0] = 1
    with refused(ValueError):
        array.sort()
    page = ctypes.c_void_p(address // 4096 * 4096)
    assert libc.mprotect(page, 4096, mmap.PROT_READ | mmap.PROT_WRITE) == -1
    with refused(OSError), open("/proc/self/mem", "r+b", buffering=0) as memory:
        os.pwrite(memory.fileno(), b"x" * 8, address)
    ours = ctypes.create_string_buffer(b"x" * 8)
    local = struct.pack("<QQ", ctypes.addressof(ours), 8)
    remote = struct.pack("<QQ", address, 8)
    assert libc.process_vm_writev(os.getpid(), local, 1, remote, 1, 0) == -1
    assert write_by_pointer(address) == signal.SIGSEGV
    assert array.sum() == 499_500
    del array
    line.send(None)
os.rmdir(runtime)
print("nothing was written")
