"""What the times of frames are in UTC: an offset between two clocks, measured when somebody asks."""

from __future__ import annotations

from datetime import UTC, timedelta
from datetime import datetime as _datetime
from typing import NamedTuple

_EPOCH = _datetime(1970, 1, 1, tzinfo=UTC)


class Clock(NamedTuple):
    """The offset between the monotonic clock and UTC, as it was when it was measured: what ``ring.clock`` gives.

    `offset_ns` is added to a time of the monotonic clock to get nanoseconds UTC since 1970; it may be wrong by
    `uncertainty_ns` at the most. It stays as it is: a step of the wall clock shows in the next ``ring.clock``.

    >>> import ndshare as nds
    >>> clock = nds.Clock(offset_ns=1_700_000_000_000_000_000, uncertainty_ns=50)
    >>> clock.utc_ns(5), clock.monotonic_ns(1_700_000_000_000_000_005)
    (1700000000000000005, 5)
    >>> clock.datetime(1_500_000_000).isoformat()
    '2023-11-14T22:13:21.500000+00:00'
    """

    offset_ns: int
    uncertainty_ns: int

    def utc_ns(self, time_ns: int) -> int:
        """Return a time of the monotonic clock as nanoseconds UTC since 1970."""
        return int(time_ns) + self.offset_ns

    def datetime(self, time_ns: int) -> _datetime:
        """Return a time of the monotonic clock as a datetime in UTC, in microseconds."""
        return _EPOCH + timedelta(microseconds=self.utc_ns(time_ns) // 1000)

    def monotonic_ns(self, utc_ns: int) -> int:
        """Return nanoseconds UTC as a time of the monotonic clock: of a camera that is set by PTP, say."""
        return int(utc_ns) - self.offset_ns


Clock.__module__ = "ndshare"
