"""Where a frame was made that came from another machine: a field of its meta, which goes wherever the frame goes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

FIELD = "origin"
HOST_BYTES = 64
DTYPE: np.dtype[Any] = np.dtype([("host", f"S{HOST_BYTES}"), ("run", "<u8"), ("seq", "<u8"), ("time_ns", "<i8")])


class Origin(NamedTuple):
    """Where a frame was made: the host, the run of the server there, the number there, and when.

    Numbers count within one run: a server that is started again begins another one. `time_ns` is the publication by
    that host's clock, in nanoseconds UTC since 1970.

    >>> from ndshare.net import Origin
    >>> Origin("cam-host", 7, 3, 1_700_000_000_000_000_000).time.isoformat()
    '2023-11-14T22:13:20+00:00'
    """

    host: str
    run: int
    seq: int
    time_ns: int

    @property
    def time(self) -> datetime:
        """The time as a datetime in UTC."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)


def is_there(meta: np.dtype[Any] | None) -> bool:
    """Tell whether frames with this meta say where they were made."""
    fields = None if meta is None else meta.fields
    return fields is not None and FIELD in fields and fields[FIELD][0] == DTYPE


def of_meta(meta: Any) -> Origin | None:
    """Return what the meta of a frame says; None where it says nothing."""
    if meta is None or not is_there(meta.dtype):
        return None
    origin = meta[FIELD]
    host = bytes(origin["host"]).decode("utf-8", "replace")
    return Origin(host, int(origin["run"]), int(origin["seq"]), int(origin["time_ns"]))


Origin.__module__ = "ndshare.net"
