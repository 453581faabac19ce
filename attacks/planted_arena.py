"""A file that only looks like an arena is put where a reference leads.

A process of the same user has memory files of the right name in the right descriptor: empty, cut, without seals, full
of noise, full of zeros. Whoever opens the reference must get an error, and must never touch a byte that is not there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from multiprocessing.connection import Connection

import ndshare as nds
from common import hear, other, refused, survives

SEALS = 2 | 4 | 1  # against shrinking, growing, and more seals


def fake(name: str, length: int, content: bytes, seals: int) -> int:
    file = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.fchmod(file, 0o600)
    os.ftruncate(file, length)
    os.pwrite(file, content, 0)
    if seals:
        fcntl.fcntl(file, 1033, seals)  # F_ADD_SEALS
    return file


def fakes(head: bytes, length: int) -> dict[str, tuple[int, bytes, int]]:
    """Return length, content and seals of each fake; `head` is how a true one begins."""
    return {
        "empty": (0, b"", SEALS),
        "one page": (4096, head, SEALS),
        "the tables cut": (1 << 20, head, SEALS),
        "no seals": (length, head, 0),
        "not sealed against shrinking": (length, head, 4 | 1),
        "noise": (1 << 20, os.urandom(1 << 20), SEALS),
        "zeros": (length, b"", SEALS),
        "all ones": (1 << 20, b"\xff" * (1 << 20), SEALS),
        "sizes, and noise for the rest of the head": (length, head[:136] + os.urandom(4096 - 136), SEALS),
    }


def squat(line: Connection) -> None:
    arena = nds.Arena("8 MiB")
    array = nds.ones(1000, arena=arena)
    name = f"ndshare:{arena.id}"
    link = next(f"/proc/self/fd/{fd}" for fd in range(3, 2000) if leads_to(f"/proc/self/fd/{fd}", name))
    true = os.open(link, os.O_RDWR)
    head, length, place = os.pread(true, 4096, 0), os.fstat(true).st_size, int(link.rsplit("/", 1)[1])
    line.send((str(nds.ref(array)), list(fakes(head, length))))
    os.close(true)
    for size, content, seals in fakes(head, length).values():
        file = fake(name, size, content, seals)
        os.dup2(file, place)
        os.close(file)
        line.send(None)
        line.recv()
    os._exit(0)  # what it had of an arena is in pieces


def leads_to(link: str, name: str) -> bool:
    return os.path.lexists(link) and os.readlink(link).startswith(f"/memfd:{name} ")


def opens(reference: str, what: str) -> Callable[[], None]:
    def work() -> None:
        # Sealed tables of zeros say nothing, and tables of noise contradict themselves.
        with refused((nds.Error, ValueError)):
            assert nds.ref(reference).open().sum() != 1000, what

    return work


with other(squat) as line:
    reference, kinds = hear(line)
    for kind in kinds:
        hear(line)
        survives(opens(reference, kind))
        line.send(None)
print(f"{len(kinds)} fakes were refused")
