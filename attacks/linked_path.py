"""Something else is put where an arena's file is to be: links, devices, pipes, sockets, directories, files of others.

A program that opens a path in a directory where others may write could be made to write over any file of its own.
Nothing that is not its own plain file is followed or opened, and what was there stays as it was.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import ndshare as nds
from common import NOBODY, refused

folder = Path(tempfile.mkdtemp())
path, victim = folder / "a.nds", folder / "precious"
victim.write_bytes(b"precious" * 1000)


def refuses(make: Callable[[], object], match: str) -> None:
    kept = make()
    for call in (lambda: nds.Arena("8 MiB", path=path), lambda: nds.Arena(path=path)):
        with refused(nds.AttachError, match):
            call()
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    del kept


def bound() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    return listener


def arena_of(mode: int, user: int) -> None:
    nds.Arena("8 MiB", path=path).close()
    path.chmod(mode)
    os.chown(path, user, -1)


refuses(lambda: path.symlink_to(victim), "a symbolic link")
refuses(lambda: path.symlink_to(folder / "nothing"), "a symbolic link")
refuses(path.mkdir, "a directory")
refuses(lambda: os.mkfifo(path), "a FIFO")
refuses(bound, "a socket")
refuses(lambda: arena_of(0o666, -1), "mode 666")
if os.geteuid() == 0:
    refuses(lambda: os.mknod(path, 0o020600, os.makedev(1, 5)), "a device")  # /dev/zero
    refuses(lambda: arena_of(0o600, NOBODY), f"belongs to uid {NOBODY}")
os.link(victim, path)  # a file of one's own that is no arena
with refused(ValueError, "something else"):
    nds.Arena("8 MiB", path=path)
assert victim.read_bytes() == b"precious" * 1000

# What `save` replaces is a name, and never what stands behind a device or a pipe.
path.unlink()
os.mkfifo(folder / "pipe.npy")
with refused(FileExistsError, "a FIFO"):
    nds.save(folder / "pipe.npy", [1, 2])
assert not (folder / "nothing").exists()
for file in folder.iterdir():
    file.unlink()
folder.rmdir()
print("nothing was followed")
