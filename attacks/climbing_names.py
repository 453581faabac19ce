"""Names that are paths, orders to a terminal, or markup.

Names become names of files, and stand in errors, in ``ndshare ls`` and in notebooks. None leaves the registry, none
tells a terminal or a browser what to do; nor does the name that a process gives itself.
"""

from __future__ import annotations

import os
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import ndshare as nds
from common import hear, libc, other, refused, wait
from ndshare import _native

runtime = Path(tempfile.mkdtemp())
os.environ["XDG_RUNTIME_DIR"] = str(runtime)
array = nds.ones(3)
CLIMBS = ("", ".", "..", "../x", "/etc/x", "a/b", "a\0b", "\x1b[2J", "a\nb", "a\x7fb", "x" * 201, "\udcff")
for name in CLIMBS:
    for call in (
        lambda name=name: nds.publish(name, array),
        lambda name=name: nds.attach(name, timeout=0),
        lambda name=name: nds.unpublish(name),
        lambda name=name: nds.session(name),
    ):
        with refused(ValueError):
            call()
assert not list(runtime.rglob("*"))

# Within a session a name is text and no file, so it may say anything; where it is shown it is escaped.
EVIL = "\x1b[2J\x07\r\n<img src=x onerror=alert(1)>"
ring = nds.Ring(3, np.uint8, slots=2, name=EVIL)
assert "<img" not in ring._repr_html_()
shown = [repr(ring)]
try:
    nds.Cache("1 MiB", name=EVIL)
except (nds.Error, TypeError, ValueError) as error:
    shown.append(str(error))


def hold(line: Connection) -> None:
    libc.prctl(15, EVIL.encode()[:15], 0, 0, 0)  # PR_SET_NAME
    with nds.locked(array):
        line.send(None)
        wait(line)


output = os.memfd_create("output")
with other(hold) as line:
    hear(line)
    try:
        with nds.locked(array, timeout=1.2):
            raise AssertionError("the lock is not free")
    except nds.Timeout as error:
        assert "held by" in str(error)
        shown.append(str(error))
    stdout = os.dup(1)
    os.dup2(output, 1)
    for verb in (["ls"], ["ls", "--json"], ["top", "--once", "--interval", "0.02"], ["check"]):
        _native.run_command(["ndshare", *verb])
    os.dup2(stdout, 1)
    line.send(None)
shown.append(os.pread(output, 1 << 20, 0).decode())
assert "img src" in shown[-1], "the ring was shown"
for text in shown:
    assert len(text) > 20
    assert not set(text) & set("\x1b\x07\r"), ascii(text)
runtime.rmdir()
print("no name does anything")
