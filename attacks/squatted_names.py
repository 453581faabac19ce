"""Something else is put where a name is kept, and where the registry is.

The registry is a directory of the user's own. Links, pipes, files that others may write, and files of others must not
be read as names, and must keep nobody from other names; nor is a directory used that others reach.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import ndshare as nds
from common import NOBODY, refused

runtime = Path(tempfile.mkdtemp())
os.environ["XDG_RUNTIME_DIR"] = str(runtime)
folder, name = runtime / "ndshare", runtime / "ndshare" / "name-x"
array = nds.ones(3)


def squatted(put: Callable[[bytes], object], match: str) -> None:
    nds.publish("other", array)
    nds.publish("x", array)
    text = name.read_bytes()
    name.unlink()
    put(text)
    with refused(nds.AttachError, match):
        nds.attach("x", timeout=0)
    assert nds.attach("other", timeout=0).sum() == 3, "the other name goes on"
    name.rmdir() if name.is_dir() and not name.is_symlink() else name.unlink()
    nds.unpublish("x")


def file(text: bytes, mode: int, user: int = -1) -> None:
    name.write_bytes(text)
    name.chmod(mode)
    os.chown(name, user, -1)


elsewhere = runtime / "elsewhere"
squatted(lambda text: (elsewhere.write_bytes(text), name.symlink_to(elsewhere)), "symbolic link")
elsewhere.unlink()
squatted(lambda text: (elsewhere.write_bytes(text), elsewhere.chmod(0o600), os.link(elsewhere, name)), "hard links")
squatted(lambda _: name.mkdir(0o700), "something else than a file")
squatted(lambda _: os.mkfifo(name, 0o600), "something else than a file")
squatted(lambda text: file(text, 0o666), "mode 666")
squatted(lambda _: file(b"x" * 100_000, 0o600), "larger")
squatted(lambda _: file(b"", 0o600), "")
squatted(lambda text: file(text[:20], 0o600), "")
if os.geteuid() == 0:
    squatted(lambda text: file(text, 0o600, NOBODY), f"belongs to uid {NOBODY}")

nds.unpublish("other")
assert not folder.exists()
for make, match in (
    (lambda: folder.symlink_to(elsewhere), "symbolic link"),
    (lambda: (folder.mkdir(), folder.chmod(0o777)), "mode 777"),
    (lambda: (folder.mkdir(0o700), os.chown(folder, NOBODY, NOBODY)), "belongs to uid"),
):
    if "belongs" in match and os.geteuid() != 0:
        continue
    make()
    with refused(nds.AttachError, match):
        nds.publish("x", array)
    folder.unlink() if folder.is_symlink() else folder.rmdir()
elsewhere.unlink()
runtime.rmdir()
print("no squatter was believed")
