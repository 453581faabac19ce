"""References are forged: each byte of one is changed, and whole ones are made up.

A token says arena, block, generation, place, shape, strides and dtype. What a forged one opens must be a part of a
block that somebody holds, of plain numbers; else it is an error. Nothing may reach beyond the block, and no bytes
become objects.
"""

from __future__ import annotations

import contextlib
import random
import re
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

import ndshare as nds
from common import refused, survives

REFUSALS = (nds.Error, ValueError, TypeError)
array = nds.array(np.arange(1000.0))
TOKEN = bytes.fromhex(str(nds.ref(array)).removeprefix("nds1:"))
opened: list[Any] = []


def opens(token: bytes) -> None:
    """Open a token; all that comes of it is plain numbers inside one block."""
    with contextlib.suppress(*REFUSALS):
        got = nds.ref("nds1:" + token.hex()).open()
        if isinstance(got, np.ndarray):
            assert not got.dtype.hasobject
            assert got.nbytes <= 1 << 20
            got.tobytes()
            opened.append(got)


def changes() -> None:
    for at in range(len(TOKEN)):
        # Of a wrong arena or process it takes a search to find out that there is none.
        for value in range(256) if at > 14 else (0, 1, 0x7F, 0xFF, TOKEN[at] ^ 1):
            opens(TOKEN[:at] + bytes([value]) + TOKEN[at + 1 :])
    dice = random.Random(1)
    for _ in range(1000):
        opens(TOKEN[:18] + dice.randbytes(dice.randrange(40)))
    for cut in range(len(TOKEN)):
        opens(TOKEN[:cut])
        opens(TOKEN + TOKEN[cut:])
    assert len(opened) > 100, "a forged token is one of its user's own, and some fit"


def objects() -> None:
    """Bytes as pointers would be the end."""
    for dtype in (b"|O", b"O", b"O8", b"|O8", b"[('x','O')]", b"[('a','<f8'),('b','|O')]"):
        forged = TOKEN.removesuffix(b"f8") + dtype
        with refused(REFUSALS):
            nds.ref("nds1:" + forged.hex()).open()


def pickles() -> None:
    """Change the token in a pickle of multiprocessing."""
    whole = bytes(ForkingPickler.dumps(array))
    token = re.search(rb"C(.)(\x01\x03)", whole, re.DOTALL)
    assert token
    for at in range(token.start(2), token.start(2) + token[1][0]):
        for value in (0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 1):
            with contextlib.suppress(*REFUSALS):
                got = ForkingPickler.loads(whole[:at] + bytes([value]) + whole[at + 1 :])
                assert not isinstance(got, np.ndarray) or got.nbytes <= 1 << 20


for attack in (changes, objects, pickles):
    survives(attack)
assert (array == np.arange(1000.0)).all()
print("nothing of what was forged reaches out of a block")
