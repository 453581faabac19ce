"""Readers come by hundreds, say nothing, say too much, never read, and hang up.

Who offers an array answers by one thread. Whatever readers do, the next honest one is answered, and the publisher's
own work and descriptors do not run out.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import ndshare as nds
from common import SECONDS

place = Path(tempfile.mkdtemp(dir="/tmp"))
place.chmod(0o1777)
os.environ["NDSHARE_OFFERS"] = str(place)
arena = nds.Arena("8 MiB", mode=0o644)
nds.publish("x", nds.ones(1000, arena=arena), mode=0o644)
address = str(place / f"ndshare-{os.geteuid()}-offers" / "offer-x")


def caller() -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(address)
    return line


def honest() -> None:
    assert nds.attach("x", user=os.geteuid(), readonly=True, timeout=SECONDS).sum() == 1000


honest()
for rude in range(4):
    lines = [caller() for _ in range(100)]
    for line in lines:
        line.setblocking(False)
        try:
            if rude == 1:
                line.send(b"x" * 60_000)
            elif rude == 2:
                socket.send_fds(line, [b"take this"], [0, 1, 2])
            elif rude == 3:
                line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    assert nds.zeros(10, arena=arena).sum() == 0, "the publisher works"
    for line in lines:
        line.close()
    honest()
assert len(os.listdir("/proc/self/fd")) < 100
nds.unpublish("x")
shutil.rmtree(place)
print("400 rude readers, and the honest one was answered")
