"""A user who may read an offered array tries to write it: the twelve ways that we know of.

It has one descriptor, opened to be read. It opens it anew through ``/proc``, maps it, changes the mapping, cuts it,
lets it grow, punches holes, writes, seals, changes the mode, looks into the publisher's process. The kernel must
refuse each.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ndshare as nds
from common import SECONDS, hear, libc, other, root_only, wait

root_only()
place = Path(tempfile.mkdtemp(dir="/tmp"))
place.chmod(0o1777)
os.environ["NDSHARE_OFFERS"] = str(place)
ANY = (errno.EACCES, errno.EPERM, errno.EBADF, errno.EINVAL)


def fails(call: Callable[..., Any], *args: Any) -> None:
    try:
        call(*args)
    except OSError as error:
        assert error.errno in ANY, error
    else:
        raise AssertionError(f"{call.__name__}{args} worked")


def says_no(result: int) -> None:
    assert result == -1, "it worked"
    assert ctypes.get_errno() in ANY, os.strerror(ctypes.get_errno())


def attack(line: Connection) -> None:
    publisher = hear(line)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
        asked.connect(f"{place}/ndshare-0-offers/offer-x")
        letter, (file,), _, _ = socket.recv_fds(asked, 1 << 16, 4)
        at = struct.unpack_from("<Q", letter, 24)[0]
        assert os.pread(file, 8, at) == struct.pack("<d", 7.0), "it may read"
        own = f"/proc/self/fd/{file}"
        fails(os.open, own, os.O_RDWR)
        fails(os.open, own, os.O_WRONLY)
        fails(mmap.mmap, file, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        pages = libc.mmap
        pages.restype = ctypes.c_void_p
        pages.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        address = ctypes.c_void_p(pages(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, file, 0))
        says_no(libc.mprotect(address, 4096, mmap.PROT_READ | mmap.PROT_WRITE))
        says_no(libc.madvise(address, 4096, 9))  # MADV_REMOVE
        for length in (0, 2 * os.fstat(file).st_size):
            fails(os.ftruncate, file, length)
        for mode in (0, 1 | 2, 1 | 0x10):
            says_no(libc.fallocate(file, mode, ctypes.c_long(0), ctypes.c_long(4096)))
        fails(os.pwrite, file, b"x", 0)
        fails(fcntl.fcntl, file, 1033, 8)  # F_ADD_SEALS: against writing
        fails(os.fchmod, file, 0o666)
        fails(os.chmod, own, 0o666)
        fails(open, f"/proc/{publisher}/mem", "r+b")
        fails(os.listdir, f"/proc/{publisher}/fd")
        pidfd = os.pidfd_open(publisher)
        for number in range(1100):
            says_no(libc.syscall(438, pidfd, number, 0))  # pidfd_getfd
    array = nds.attach("x", user=0, readonly=True, timeout=SECONDS)
    try:
        array.flags.writeable = True
    except ValueError:
        pass
    else:
        raise AssertionError("the array was made writable")
    line.send("refused")
    wait(line)


with other(attack, is_nobody=True) as line:
    arena = nds.Arena("8 MiB", mode=0o604)
    array = nds.full(1000, 7.0, arena=arena)
    nds.publish("x", array, mode=0o604, group=0)
    line.send(os.getpid())
    assert hear(line) == "refused"
    assert (array == 7).all()
    nds.unpublish("x")
shutil.rmtree(place)
print("refused twelve times")
