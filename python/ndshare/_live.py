# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A ring in a window of another library: a timer looks for the newest frame, so nobody waits for anybody."""

from __future__ import annotations

import importlib
from typing import Any

from ._errors import Closed, Empty, WriterDied
from ._names import attach
from ._native import Reader, Ring
from ._ring import Frame


class Live:
    """What shows the newest frame of a ring, or of a published one by its name, until it is closed or the ring is."""

    def __init__(self, source: Ring | str) -> None:
        ring: Any = attach(source, timeout=0) if isinstance(source, str) else source
        if not isinstance(ring, Ring):
            raise TypeError(f"expected a Ring or the name of one, got {type(ring).__name__}")
        self.name = source if isinstance(source, str) else ring.name or "ring"
        self.closed = False
        self._frames: Reader[Any] = ring.reader(latest=True, start="oldest")
        self._timer: Any = None

    def _show(self, frame: Frame[Any]) -> None:
        raise NotImplementedError

    def start(self, rate: float) -> None:
        """Call `update` so often in a second, in Qt's event loop."""
        self._timer = importlib.import_module("qtpy.QtCore").QTimer()
        self._timer.timeout.connect(self.update)
        self._timer.start(round(1000 / rate))

    def update(self) -> bool:
        """Show the newest frame; return whether there was one that was not shown yet."""
        try:
            frame = None if self.closed else self._frames.get(timeout=0)
        except Closed:
            self.close()
            return False
        except (Empty, WriterDied):  # a successor may come
            return False
        if frame is not None:
            self._show(frame)
        return frame is not None

    def close(self) -> None:
        """Follow the ring no more. The last frame stays."""
        if self._timer is not None:
            self._timer.stop()
        self.closed = True
        self._frames.close()
