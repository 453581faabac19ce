# pyright: reportPrivateUsage=false
"""Messages of other machines, as `ndshare.net` reads them: ``python fuzz/run.py net_wire``, with atheris.

`message` takes any bytes: a header, an array that it announces, what is told as JSON, a key of Zenoh. What is whole is
packed and unpacked again; what is refused is refused by the one error of the protocol. Tests run the seeds through the
same function.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from ndshare.net import _wire

# What a receiver takes at the most.
MOST = 1 << 20


def message(data: bytes) -> bool:
    """Return whether bytes are a message of some kind; any other error than `Malformed` is a fault."""
    return any([_frame(data), _json(data), _key(data)])


def _frame(data: bytes) -> bool:
    """Read a header, and the payload behind it."""
    # The first two bytes say where the payload begins, which Zenoh says otherwise.
    at = int.from_bytes(data[:2], "little")
    head, payload = data[2 : 2 + at], data[2 + at :]
    try:
        header = _wire.unpack(head)
    except _wire.Malformed:
        return False
    assert _wire.unpack(_wire.pack(header)) == header
    assert len(_wire.pack(header)) == len(head)
    try:
        dtype = _wire.checked_array(header, len(payload), MOST)
        assert header.nbytes <= MOST
        array = np.empty(header.shape, dtype)
        assert array.nbytes == header.nbytes
        items = np.frombuffer(_wire.unpacked(header, payload), np.uint8)
        assert len(items) == header.nbytes
    except (_wire.Malformed, ImportError):
        return False
    array.reshape(-1).view(np.uint8)[:] = items[: array.nbytes] if array.nbytes else 0
    return True


def _json(data: bytes) -> bool:
    try:
        fields = _wire.heard(data)
    except _wire.Malformed:
        return False
    whole = True
    for read in (_wire.form_in, lambda fields: _wire.number_in(fields, "run")):
        try:
            read(fields)
        except _wire.Malformed:
            whole = False
    return whole


def _key(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    token = _wire.of_live_key(text)
    if token is None:
        return False
    kind, name, run = token
    assert _wire.of_live_key(_wire.live_key(kind, name, run)) == token
    return True


def main() -> None:
    """Fuzz, with the arguments of libFuzzer."""
    atheris: Any = importlib.import_module("atheris")
    atheris.instrument_func(_wire.unpack)
    for function in (_wire.checked_array, _wire.unpacked, _wire.heard, _wire.form_in, _wire.of_live_key, message):
        atheris.instrument_func(function)
    atheris.Setup(sys.argv, message_alone)
    atheris.Fuzz()


def message_alone(data: bytes) -> None:
    """Read bytes as a message."""
    message(data)


if __name__ == "__main__":
    main()
