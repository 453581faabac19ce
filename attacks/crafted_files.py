"""Files that were made to be read wrong: NumPy's, with shapes that no machine has, and recordings.

``nds.load`` and ``nds.replay`` read what others wrote. A length in a head must not be believed before the file has
it; nothing in a file is run; nothing is read from another path than that which was given.
"""

from __future__ import annotations

import json
import struct
import tempfile
import warnings
from pathlib import Path

import ndshare as nds
from common import refused

folder = Path(tempfile.mkdtemp())
HUGE = 1 << 60


def npy(head: str, body: bytes = bytes(100)) -> Path:
    text = head.encode()
    length = -(-(11 + len(text)) // 64) * 64 - 10
    path = folder / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text.ljust(length - 1) + b"\n" + body)
    return path


def described(shape: object, dtype: str = "<f8") -> str:
    return repr({"descr": dtype, "fortran_order": False, "shape": shape})


assert nds.load(npy(described((3,)))).shape == (3,), "a true one is read"
files = [
    described((HUGE,)),
    described((HUGE, HUGE)),
    described((1 << 40,)),
    described((-1,)),
    described((-HUGE, -1)),
    described((101,)),
    described((1,), "|O"),
    described((0, HUGE, HUGE)),
    "__import__('os').abort()",
    "(" * 5000,
    "",
]
for head in files:
    with warnings.catch_warnings(), refused(Exception):
        warnings.simplefilter("ignore")
        nds.load(npy(head))


# ---- recordings

recording, description = folder / "run.raw", folder / "run.raw.json"
recording.write_bytes(bytes(3 * 32))
times = folder / "run.raw.times.csv"
rows = [f"{number},{number},2026-12-01T00:00:00.{number:09}Z" for number in range(3)]
true = {"frames": 3, "format": "ndshare raw 1", "shape": [4, 4], "dtype": "<u2", "order": "C", "frame_bytes": 32}


def replay(text: str, table: str) -> int:
    description.write_text(text)
    times.write_text(table)
    with nds.replay(recording, speed=None) as running:
        return len(list(running.ring.reader()))


table = "\n".join(["seq,time_ns,utc", *rows, ""])
assert replay(json.dumps(true | {"meta": None}), table) == 3, "a true one is replayed"
lies: list[dict[str, object]] = [
    {"shape": [HUGE, HUGE]},
    {"shape": [1 << 20, 1 << 20], "frame_bytes": 1 << 41},
    {"shape": [-1, 4]},
    {"shape": [1] * 70},
    {"shape": "abc"},
    {"dtype": "|O"},
    {"dtype": "<u99"},
    {"dtype": "__import__('os').abort()"},
    {"frame_bytes": HUGE},
    {"frame_bytes": 0},
    {"frames": HUGE},
    {"frames": -1},
    {"frames": 1e300},
    {"order": "F"},
    {"meta": "[('a', 'O')]"},
    {"format": "../../etc/passwd"},
]
texts = ["", "[]", "[" * 100_000, *(json.dumps(true | {"meta": None} | lie) for lie in lies)]
for text in texts:
    with refused(ValueError):
        replay(text, table)
for wrong in ("", "x", table + "9" * 1000 + ",1,2\n", table.replace("\n", "\n\n"), "a" * 1_000_000):
    with refused(ValueError):
        replay(json.dumps(true | {"meta": None}), wrong)
for path in folder.iterdir():
    path.unlink()
folder.rmdir()
print(f"{len(files)} heads and {len(texts) + 5} recordings were refused")
