"""Whether the other side of a link is still heard, and when to ask and to open the link anew.

A link can be up and deaf. After a cut, Zenoh's client connects again under its old identity; if the other side has not
yet given up the old connection, it may take the new one for more of the same. The connection then lives on, and nothing
comes over it any more, for as long as both sides run (eclipse-zenoh/zenoh#2806 is of this kind). Only a session with a
new identity is heard again. So whoever waits looks here: after some silence a question goes out, which every server
answers at once; if no answer comes either, the link is to be opened anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

SILENT = 2.0  # seconds without a word after which a question is asked
ANSWER = 3.0  # seconds that its answer may take
LONGEST = 60.0  # seconds between two attempts to open a link anew, which each time take twice as long to come


class Hearing:
    """When something was heard last, and what is to be done about it. Threads of Zenoh and of waits share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Begin to listen: something came that only a server sends that hears us, or there is no link now."""
        with self._lock:
            self._act_at, self._has_asked, self._answer = self._clock() + SILENT, False, ANSWER

    def step(self) -> Literal["nothing", "ask", "renew"]:
        """Return what the caller is to do now; nobody else is told to do it as well."""
        with self._lock:
            now = self._clock()
            if now < self._act_at:
                return "nothing"
            if not self._has_asked:
                self._has_asked, self._act_at = True, now + self._answer
                return "ask"
            self._answer = min(2 * self._answer, LONGEST)
            self._has_asked, self._act_at = False, now + self._answer
            return "renew"
