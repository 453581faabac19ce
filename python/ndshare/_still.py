"""A still picture of what is viewed, for notebooks that show no widgets: small, grey or in its own colours, as PNG."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import Closed, Empty, WriterDied
from ._native import Ring

_MOST = 512  # rows and columns


def page(url: str, picture: bytes | None) -> str:
    """Return HTML with a link to the viewer and a picture."""
    link = f'<a href="{html.escape(url)}" target="_blank" rel="noreferrer">{html.escape(url)}</a>'
    image = f'<br><img src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    return f"Live at {link}, for browsers on this machine; here with <code>pip install ndshare[notebook]</code>.{image}"


def still(thing: Any) -> bytes | None:
    """Return a picture of an array, or of the newest frame of a ring; None where there is none."""
    if not isinstance(thing, Ring):
        return _of(np.asarray(thing))
    with cast("Ring[Any]", thing).reader(latest=True, start="oldest") as frames:
        try:
            return _of(np.asarray(frames.get(timeout=0)))
        except (Empty, Closed, WriterDied):
            return None


def _of(array: NDArray[Any]) -> bytes | None:
    """Return a picture of an array, or of the first of its fields that has rows and columns; None for no numbers."""
    if array.dtype.names:
        found = (_of(array[name]) for name in array.dtype.names if array[name].ndim > 1)
        return next((picture for picture in found if picture), None)
    is_number = array.dtype.kind not in "SUMm" and array.dtype.type is not np.void
    return _png(_as_bytes(array)) if is_number and array.size else None


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return rows and columns of grey, or of red, green and blue."""
    has_colours = array.ndim > 2 and array.shape[-1] in (3, 4) and array.dtype == np.uint8
    array = array[(0,) * (array.ndim - 2 - has_colours)] if array.ndim > 2 else np.atleast_2d(array)
    step = max(1, -(-max(array.shape[:2]) // _MOST))
    array = array[::step, ::step]
    if has_colours:
        return np.ascontiguousarray(array[..., :3])
    values = np.abs(array) if array.dtype.kind == "c" else array.astype(np.float64)
    values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    low, high = np.percentile(values, (0.1, 99.9))
    return ((values - low) / (high - low or 1) * 255).clip(0, 255).astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with the number of its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))
