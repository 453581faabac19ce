# pyright: reportPrivateUsage=false
"""What goes over the network: the header of a message, byte by byte, and names as keys of Zenoh.

Nothing here trusts its input. A header is bounded, each number is checked before anything is made by it, dtypes are
texts that the library itself parses, and nothing is unpickled. `docs/net.md` draws the bytes.
"""

from __future__ import annotations

import importlib
import json
import math
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from .. import _native
from . import _engine
from ._errors import Incompatible

PROTOCOL = 2
MAGIC = b"NDSN"
FRAME, END, DIED, VALUE, NEXT = 1, 2, 3, 4, 5
# Flags: the items are one block of lz4; a seal is behind them.
LZ4, SEALED = 1, 2

# What a note is, by its place; the first is none.
NOTES = (None, "text", "json", "bytes")

MOST_HEADER = 16 << 10  # without its note
MOST_JSON = 64 << 10
MOST_AXES = 64
MOST_DTYPE = 4 << 10
MOST_META = 4 << 10
MOST_KEY = 64 << 10
# No camera makes so many frames while a link is cut: a larger gap is no number of this ring.
MOST_GAP = 1 << 40
# Items may have no bytes, and each of them costs time all the same, or memory: NumPy makes some of one byte or more.
MOST_EMPTY = 1 << 20
# An array without items may have axes of any length; NumPy refuses those that could not be addressed.
MOST_REACH = 1 << 62
# A block of lz4 never grows by more than this when it is unpacked.
MOST_LZ4 = 255

_FIXED = struct.Struct("<4sBBBBQQqQHHBI")
_SEAL = struct.Struct("<QQ")
SEAL = _SEAL.size


class Malformed(ValueError):  # noqa: N818
    """A message is none of this protocol; it is counted, and thrown away."""


class Header(NamedTuple):
    """What is said of a message.

    `number` is that of the frame in its ring; of END, DIED and NEXT the number that is to be the next. `dtype` and
    `shape` say what the payload is, in C order. `note_kind` is one of `NOTES`, by its place.
    """

    kind: int
    flags: int
    run: int
    number: int
    time_ns: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: str
    meta: bytes
    note_kind: int = 0
    note: bytes = b""


def pack(header: Header) -> bytes:
    """Return a header as bytes."""
    dtype = header.dtype.encode()
    fixed = _FIXED.pack(
        MAGIC,
        PROTOCOL,
        header.kind,
        header.flags,
        len(header.shape),
        header.run,
        header.number,
        header.time_ns,
        header.nbytes,
        len(dtype),
        len(header.meta),
        header.note_kind,
        len(header.note),
    )
    return fixed + struct.pack(f"<{len(header.shape)}Q", *header.shape) + dtype + header.meta + header.note


def unpack(data: bytes) -> Header:
    """Return the header in these bytes, whoever sent them. Raises Malformed."""
    if len(data) < _FIXED.size:
        raise Malformed(f"expected a header of at least {_FIXED.size} bytes, got {len(data)}")
    magic, protocol, kind, flags, axes, run, number, time_ns, nbytes, *lengths = _FIXED.unpack_from(data)
    dtype_len, meta_len, note_kind, note_len = lengths
    if magic != MAGIC or protocol != PROTOCOL:
        raise Malformed(f"expected a message of protocol {PROTOCOL}, got {protocol} of {magic!r}")
    if kind not in {FRAME, END, DIED, VALUE, NEXT} or flags & ~(LZ4 | SEALED):
        raise Malformed(f"expected a kind of message and flags that are known, got {kind} and {flags:#x}")
    if axes > MOST_AXES or dtype_len > MOST_DTYPE or meta_len > MOST_META:
        raise Malformed(f"expected an array with a description of bounded length, got {axes}, {dtype_len}, {meta_len}")
    if note_kind >= len(NOTES) or (note_kind and kind != FRAME) or (note_len and not note_kind):
        raise Malformed(f"expected a note of a kind that is known, beside a frame, got {note_kind} beside {kind}")
    if len(data) != _FIXED.size + 8 * axes + dtype_len + meta_len + note_len:
        raise Malformed(f"expected a header that is as long as it says, got {len(data)} bytes")
    at = _FIXED.size + 8 * axes
    shape = struct.unpack_from(f"<{axes}Q", data, _FIXED.size)
    try:
        dtype = data[at : at + dtype_len].decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"expected a dtype in UTF-8: {error}") from None
    at += dtype_len
    meta, note = data[at : at + meta_len], data[at + meta_len :]
    if not _is_note(note_kind, note):
        raise Malformed("expected a note in UTF-8, got other bytes")
    return Header(kind, flags, run, number, time_ns, nbytes, shape, dtype, meta, note_kind, note)


def _is_note(kind: int, note: bytes) -> bool:
    if NOTES[kind] == "bytes":
        return True
    try:
        note.decode()
    except UnicodeDecodeError:
        return False
    return True


def checked_array(header: Header, payload_len: int, most: int) -> np.dtype[Any]:
    """Return the dtype of the array that is announced, if its size fits what came. Raises Malformed."""
    try:
        dtype = dtype_of(header.dtype)
    except (ValueError, TypeError, ImportError, MemoryError, RecursionError) as error:
        raise Malformed(f"expected a dtype that is known here, got {header.dtype[:80]!r}: {error}") from None
    payload_len -= SEAL if header.flags & SEALED else 0
    if math.prod(header.shape) * dtype.itemsize != header.nbytes:
        raise Malformed(f"expected {header.nbytes} bytes, got shape {header.shape} of {dtype}")
    if not dtype.itemsize and math.prod(header.shape) > MOST_EMPTY:
        raise Malformed(f"expected at most {MOST_EMPTY} items that have no bytes, got shape {header.shape} of {dtype}")
    if math.prod(length or 1 for length in header.shape) * max(1, dtype.itemsize) > MOST_REACH:
        raise Malformed(f"expected a shape that NumPy can have, got {header.shape} of {dtype}")
    if header.nbytes + len(header.note) > most:
        beside = f" and a note of {len(header.note)}" if header.note else ""
        raise Malformed(f"expected at most {most} bytes, got {header.nbytes}{beside}: see max_bytes")
    if header.flags & LZ4:
        if header.nbytes > MOST_LZ4 * payload_len:
            raise Malformed(f"expected a block of lz4, got {payload_len} bytes that cannot be {header.nbytes}")
    elif header.nbytes != payload_len:
        raise Malformed(f"expected {header.nbytes} bytes of items, got {payload_len}")
    return dtype


_dtype_of = lru_cache(64)(_native.dtype_of_text)
_dtype_text = lru_cache(64)(_native.dtype_text)


def dtype_of(text: str) -> np.dtype[Any]:
    """Return the dtype of a text that anybody may have written. Raises ValueError."""
    return _dtype_of(text)


def dtype_text(dtype: np.dtype[Any]) -> str:
    """Return a dtype as text. Raises TypeError where no text says all of it."""
    text = _dtype_text(dtype)
    if text is None:
        raise TypeError(f"expected a dtype that NumPy knows, got {dtype!r}: it cannot be told to another machine")
    return text


# Bytes of arrays


def seal(run: int, number: int) -> bytes:
    """Return the last bytes of a payload. No other message ends so.

    A link that Zenoh closes in the midst of a message sends what waits behind it all the same, and the receiver takes
    that for the rest of the message. Then this is not where it should be.
    """
    return _SEAL.pack(run, number)


def packed(array: NDArray[Any], compress: str | None, end: bytes) -> tuple[Any, int]:
    """Return the items of an array in C order with a seal behind, as a payload, and the flags that say how.

    Where the engine lends buffers to the network the payload is the array itself, which is kept as long.
    """
    items: Any = array.view(np.ndarray).reshape(-1).view(np.uint8) if array.nbytes else b""
    if compress is None or not array.nbytes:
        return _engine.joined(items, end), SEALED
    return _engine.joined(lz4_block().compress(items, store_size=False), end), LZ4 | SEALED


def unpacked(header: Header, payload: Any) -> Any:
    """Return the items for `_engine.fill`, after `checked_array`. Raises Malformed.

    Nothing of a payload that has not its own seal is written anywhere.
    """
    if header.flags & SEALED and not payload.endswith(seal(header.run, header.number)):
        raise Malformed(f"expected the whole of number {header.number}, got a part: its link was closed meanwhile")
    if _engine.is_fragments(payload):
        if not header.flags & LZ4:
            return payload
        payload = payload.to_bytes()
    data = np.frombuffer(payload, np.uint8)
    if header.flags & SEALED:
        data = data[:-SEAL]
    if header.flags & LZ4 and header.nbytes:
        try:
            data = np.frombuffer(lz4_block().decompress(data, uncompressed_size=header.nbytes), np.uint8)
        except Exception as error:
            raise Malformed(f"expected a block of lz4: {error}") from None
        if len(data) != header.nbytes:
            raise Malformed(f"expected {header.nbytes} bytes in a block of lz4, got {len(data)}")
    return data


def lz4_block() -> Any:
    """Return the module that packs. Raises ImportError with advice."""
    try:
        return importlib.import_module("lz4.block")
    except ImportError as error:
        raise ImportError('frames are packed by lz4, which is missing: pip install "ndshare[lz4]"') from error


# What is told as JSON: who is there, and what a ring is


def form_of(ring: _native.Ring) -> dict[str, Any]:
    """Return what the frames of a ring are, to be told. Raises TypeError for dtypes that no text says."""
    # The dtype of meta is one of records, which are structures with another face.
    meta = None if ring.meta is None else dtype_text(np.dtype((np.void, ring.meta)))
    return {"shape": ring.shape, "dtype": dtype_text(ring.dtype), "meta": meta}


class Form(NamedTuple):
    """What the frames of a ring on another machine are."""

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]
    meta: np.dtype[Any] | None


def form_in(fields: dict[str, Any]) -> Form:
    """Return what somebody told of the frames of a ring. Raises Malformed."""
    shape, dtype, meta = (fields.get(name) for name in ("shape", "dtype", "meta"))
    lengths = [] if shape is None else cast("list[Any]", shape)
    if type(lengths) is not list or len(lengths) > MOST_AXES or not all(map(_is_len, lengths)):
        raise Malformed(f"expected the shape of frames, got {str(shape)[:80]}")
    texts = [text for text in (dtype, meta) if text is not None]
    if dtype is None or not all(isinstance(text, str) and len(text) <= MOST_DTYPE for text in texts):
        raise Malformed("expected the dtypes of frames and meta as texts")
    try:
        dtypes = [dtype_of(text) for text in texts]
    except (ValueError, TypeError, ImportError, MemoryError, RecursionError) as error:
        raise Malformed(f"expected dtypes that are known here: {error}") from None
    return Form(None if shape is None else tuple(lengths), dtypes[0], dtypes[1] if meta is not None else None)


def _is_len(length: Any) -> bool:
    return type(length) is int and 0 <= length < 1 << 48


def number_in(fields: dict[str, Any], name: str) -> int:
    """Return a number of 64 bits that somebody told. Raises Malformed."""
    number = fields.get(name)
    if type(number) is not int or not 0 <= number < 1 << 64:
        raise Malformed(f"expected a number as {name}, got {str(number)[:40]}")
    return number


def told(fields: dict[str, Any]) -> bytes:
    """Return fields as JSON."""
    return json.dumps(fields).encode()


def bounded(data: Any, most: int) -> bytes:
    """Return what somebody sent, which may be nothing; nothing if it has more bytes than that."""
    return data.to_bytes() if data is not None and len(data) <= most else b""


def heard(data: bytes) -> dict[str, Any]:
    """Return the fields that somebody told. Raises Malformed."""
    if len(data) > MOST_JSON:
        raise Malformed(f"expected at most {MOST_JSON} bytes of JSON, got {len(data)}")
    try:
        fields: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"expected JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Malformed("expected an object of JSON")
    return cast("dict[str, Any]", fields)


def check_protocol(fields: dict[str, Any], endpoint: str) -> None:
    """Refuse a server that speaks another protocol."""
    protocol = fields.get("protocol")
    if protocol != PROTOCOL:
        raise Incompatible(
            f"expected a server at {endpoint} that speaks protocol {PROTOCOL}, as ndshare {_native.__version__} does, "
            f"got protocol {str(protocol)[:40]} of ndshare {str(fields.get('ndshare'))[:40]} on "
            f"{str(fields.get('host'))[:64]}: "
            "install the same version on both machines"
        )


# Keys of Zenoh

ROOT = "ndshare"
HELLO = f"{ROOT}/hello"
LIVE = f"{ROOT}/live"


def name_key(name: str) -> str:
    """Return a name as one part of a key."""
    return quote(name, safe="")


def frames_key(name: str, run: int) -> str:
    """Return where the frames of a ring are published."""
    return f"{ROOT}/ring/{name_key(name)}/frames/{run:016x}"


def about_key(name: str, run: int | None) -> str:
    """Return where is answered what a ring is: by one run, or by all."""
    return f"{ROOT}/ring/{name_key(name)}/about/{'*' if run is None else f'{run:016x}'}"


def values_key(name: str) -> str:
    """Return where the values of a cache are asked for."""
    return f"{ROOT}/cache/{name_key(name)}/values"


def guarded_keys(run: int, caches: Iterable[str]) -> list[str]:
    """Return the keys under which a server's frames, answers and tokens are, and nobody else's."""
    return [f"{ROOT}/*/*/*/{run:016x}", *map(values_key, caches)]


def live_key(kind: str, name: str, run: int) -> str:
    """Return the token that says that a run offers a ring or a cache."""
    return f"{LIVE}/{kind}/{name_key(name)}/{run:016x}"


def of_live_key(key: str) -> tuple[str, str, int] | None:
    """Return kind, name and run of a token, whoever set it; None for another key."""
    parts = key.split("/")
    if len(parts) != 5 or not key.startswith(f"{LIVE}/"):
        return None
    try:
        return parts[2], unquote(parts[3], errors="strict"), int(parts[4], 16)
    except ValueError:
        return None
