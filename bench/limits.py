"""What the machine itself does at best: the limits beside which all other figures are to be read."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, bench, clock, pinned
from bench.memory import warm_host
from bench.ring import OURS, two_sides
from ndshare import _native  # pyright: ignore[reportPrivateUsage]  (the threshold is no user's business)

Array = np.ndarray[Any, Any]
MIB = 1 << 20
HUGE = 2 * MIB
NEVER = 1 << 60
MADV_COLLAPSE = 25
MAP_FIXED = 0x10
PROT_NONE = 0


@bench("limit-copy", "copy 256 MiB, 1 thread", rounds=9)
def copy() -> Iterator[Contestants]:
    """Copy what no cache holds, by both kinds of stores."""
    source, out = nds.full(256 * MIB, 7, np.uint8), nds.zeros(256 * MIB, np.uint8)

    def by(stream_from: int) -> Callable[[], float]:
        def go() -> float:
            _native.set_stream_from(stream_from)
            took = clock(partial(nds.copyto, out, source, workers=1))
            _native.set_stream_from()
            _same(out)
            return took

        return go

    def numpy() -> float:
        took = clock(lambda: np.copyto(out, source))
        _same(out)
        return took

    with pinned(0):
        yield {"streaming stores": by(1), "ordinary stores": by(NEVER), "np.copyto": numpy}


@bench("limit-cached", "copy 1 MiB that stays in the cache, 1 thread", rounds=30)
def cached() -> Iterator[Contestants]:
    """Copy what the second-level cache holds, if it is large."""
    source, out = nds.full(MIB, 7, np.uint8), nds.zeros(MIB, np.uint8)
    with pinned(0):
        yield {
            "ndshare.copyto": lambda: clock(partial(nds.copyto, out, source, workers=1), 20),
            "np.copyto": lambda: clock(lambda: np.copyto(out, source), 20),
        }


@bench(
    "limit-handover",
    "a word to another core",
    rounds=15,
    note="one way by a cache line that both look at; there and back by a futex, which wakes a sleeper each way",
)
def handover() -> Iterator[Contestants]:
    """Send the least that there is."""
    with two_sides(OURS) as ask:
        yield {"cache line, one way": lambda: ask("word"), "futex, there and back": lambda: ask("futex")}


@bench("limit-touch", "write 64 MiB of a new memfd, the first time", rounds=15)
def touch() -> Iterator[Contestants]:
    """Have the kernel clear and map pages, and write them."""
    warm_host(512 * MIB)
    with pinned(0):
        yield {
            "pages of 2 MiB": lambda: _touched(64 * MIB, True),
            "pages of 4 KiB": lambda: _touched(64 * MIB, False),
        }


def _touched(size: int, is_huge: bool) -> float:
    """Make a memfd, write it for the first time, and take it away."""
    descriptor = os.memfd_create("limit")
    os.ftruncate(descriptor, size)
    with _aligned(descriptor, size) as array:
        start = perf_counter()
        if is_huge:
            _collapse(array)
        array.fill(7)
        took = perf_counter() - start
        _same(array)
    os.close(descriptor)
    return took


@contextmanager
def _aligned(descriptor: int, size: int) -> Generator[Array]:
    """Map a file where pages of 2 MiB can lie; Python's own mmap chooses no address."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    room = libc.mmap(None, size + HUGE, PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    first = -(-room // HUGE) * HUGE
    libc.mmap(first, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, descriptor, 0)
    try:
        yield np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(first))
    finally:
        libc.munmap(room, size + HUGE)


def _collapse(array: Array) -> None:
    """Touch one byte of each 2 MiB, and have the kernel make one page of them; where it does not, pages stay small."""
    array[::HUGE] = 1
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), MADV_COLLAPSE)


def _same(array: Array) -> None:
    if not array[0] == array[-1] == array[array.size // 2] == 7:
        raise AssertionError("other bytes")
