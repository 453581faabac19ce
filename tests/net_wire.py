"""A wire between two network namespaces that loses and delays packets, for kernels without tc's netem.

Each end is a TUN device in its namespace; this process is the wire: `python net_wire.py NS_A NS_B DEVICE LOSS DELAY`.
It says "ready" when both devices are there, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 1, 0x1000, 0x40000000


def end_in(namespace: str, device: str) -> int:
    """Enter a namespace and return the end of a new device there."""
    libc = ctypes.CDLL(None, use_errno=True)
    inside = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if libc.setns(inside, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns to {namespace}")
    os.close(inside)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def main(first: str, second: str, device: str, loss: str, delay: str) -> None:
    ends = [end_in(first, device), end_in(second, device)]
    print("ready", flush=True)
    # By this seed no more than one packet of the first ones is lost, whose loss takes seconds.
    dice, order = random.Random(5), itertools.count()
    way: list[tuple[float, int, int, bytes]] = []
    while True:
        wait = max(0.0, way[0][0] - time.monotonic()) if way else None
        ready, _, _ = select.select([*ends, 0], [], [], wait)
        if 0 in ready:
            return
        for end in ready:
            packet = os.read(end, 1 << 16)
            if dice.random() >= float(loss):
                other = ends[1 - ends.index(end)]
                heapq.heappush(way, (time.monotonic() + float(delay), next(order), other, packet))
        while way and way[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(way)
            with contextlib.suppress(OSError):  # the device is down, or full: a wire loses it
                os.write(end, packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
