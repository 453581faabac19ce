"""Another user is first at the place where a user's offers are to be, and listens at its socket.

``/dev/shm`` and ``/tmp`` are everybody's. A reader that believed the squatter would map its memory, and a publisher
would put its socket into a directory that the squatter may empty. Both must say whose it is.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import ndshare as nds
from common import hear, other, refused, root_only, wait

root_only()
place = Path(tempfile.mkdtemp(dir="/tmp"))
place.chmod(0o1777)
os.environ["NDSHARE_OFFERS"] = str(place)
folder = place / f"ndshare-{os.geteuid()}-offers"


def squat(line: Connection) -> None:
    folder.mkdir(mode=0o711)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "offer-x"))
        listener.listen()
        line.send("listens")
        wait(line)


def both_refuse(match: str) -> None:
    with refused(nds.AttachError, match):
        nds.attach("x", user=os.geteuid(), readonly=True, timeout=0)
    with refused(nds.AttachError, match):
        nds.publish("x", nds.ones(3, arena=arena), mode=0o644)


arena = nds.Arena("8 MiB", mode=0o644)
with other(squat, is_nobody=True) as line:
    hear(line)
    both_refuse("belongs to user 65534")
    line.send(None)
shutil.rmtree(folder)
folder.symlink_to(place)
both_refuse("symbolic link")
folder.unlink()
# The squatter owns the place itself, and might put anything into it later.
os.chown(place, 65534, 65534)
both_refuse("set NDSHARE_OFFERS to one of")
shutil.rmtree(place)
print("no squatter was believed")
