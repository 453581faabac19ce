"""Who offers an array hands over descriptors of the wrong kind, or lies about what is in them.

The reader is to be made to map memory that can be cut under it, to wait on a pipe, or to believe a length. What was
handed over is closed again, and the reader gets an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ndshare as nds
from common import refused

place = Path(tempfile.mkdtemp(dir="/tmp"))
place.chmod(0o1777)
os.environ["NDSHARE_OFFERS"] = str(place)
folder = place / f"ndshare-{os.geteuid()}-offers"
folder.mkdir(mode=0o711)
SIZE = 4 << 20
DOUBLES = bytes([1, 100, 16]) + b"<f8"
BIG = (1 << 64) - 8


def memory(*, seals: bool = True, size: int = SIZE) -> int:
    file = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    if seals:
        fcntl.fcntl(file, 1033, 2 | 4)
    return file


def readable(file: int) -> int:
    return os.open(f"/proc/self/fd/{file}", os.O_RDONLY)


def letter(size: int = SIZE, at: int = 0, length: int = 1024, offset: int = 0, what: bytes = DOUBLES) -> bytes:
    head = b"ndsoffer" + struct.pack("<2I4Q", 1, 0, size, at, length, offset)
    return head + struct.pack("<4I", 0, 1, len(what), 0) + b"x" + what


@contextlib.contextmanager
def answering(message: bytes, files: list[int]) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "offer-x"))
        listener.listen()
        lines: list[socket.socket] = []

        def answer() -> None:
            lines.append(listener.accept()[0])
            socket.send_fds(lines[0], [message], files)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            lines[0].close()
            (folder / "offer-x").unlink()


def attach() -> float:
    return float(nds.attach("x", user=os.geteuid(), readonly=True, timeout=10).sum())


(folder / "plain").write_bytes(bytes(SIZE))
true, unsealed, short = memory(), memory(seals=False), memory(size=4096)
with answering(letter(), [readable(true)]):
    assert attach() == 0, "what is true is believed, or this attack shows nothing"
wrong: dict[str, list[int]] = {
    "none": [],
    "two": [readable(true), readable(true)],
    "one that may be written": [os.dup(true)],
    "one that can be cut": [readable(unsealed)],
    "one that is shorter": [readable(short)],
    "a plain file": [os.open(folder / "plain", os.O_RDONLY)],
    "a pipe": [os.pipe()[0]],
    "a directory": [os.open("/", os.O_RDONLY)],
    "a device": [os.open("/dev/zero", os.O_RDONLY)],
    "a socket": [socket.socket(socket.AF_UNIX).detach()],
    "a path": [os.open(folder / "plain", os.O_PATH)],
}
before = len(os.listdir("/proc/self/fd"))
for files in wrong.values():
    with answering(letter(), files), refused(nds.AttachError, "one file|sealed memory file"):
        attach()
lies = {
    "longer data": letter(size=1 << 62),
    "a place at the end of numbers": letter(at=BIG),
    "a length at the end of numbers": letter(length=BIG),
    "an offset at the end of numbers": letter(offset=BIG),
    "a shape at the end of numbers": letter(what=bytes([1, *[0xFF] * 8, 0x7F, 16]) + b"<f8"),
    "strides out of the block": letter(what=bytes([1, 100, 0xFF, 0xFF, 0xFF, 0x7F]) + b"<f8"),
    "objects": letter(what=bytes([1, 100, 16]) + b"|O"),
    "70,000 dimensions": letter(what=b"\xff\xff\x03" + b"\x01" * 60_000),
    "half a letter": letter()[:40],
    "a letter that is too long": letter() + bytes(70_000),
}
for message in lies.values():
    with answering(message, [readable(true)]), refused((nds.AttachError, ValueError)):
        attach()
with answering(letter(), [readable(true)]):
    assert attach() == 0
print(f"{len(wrong)} wrong descriptors and {len(lies)} lies were refused")
shutil.rmtree(place)
