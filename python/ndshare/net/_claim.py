# pyright: reportPrivateUsage=false
"""Who fills something of this machine from another one: a socket whose name only one process can have.

A ring whose camera is away has no writer, as one whose bridge was killed; so nothing in the ring itself tells the two
apart. The name of the socket ends with its process, however that ends. Whoever asks is told by the system whose it is,
and by that process what it does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import time
import weakref

from .. import _native
from .._errors import Timeout
from .._ref import ref

_BACKLOG = 64  # who has asked, and has not been answered
_MOST_ANSWER = 4096  # bytes
_CREDENTIALS = struct.Struct("3i")  # process, user, group


def of_ring(ring: _native.Ring) -> bytes:
    """Return what says which ring it is, in each process."""
    # A version and flags, which say of which session the maker is, are followed by arena and block.
    return ref(ring)._key()[2:]


def _address(what: bytes) -> str:
    return "\0ndshare " + hashlib.sha256(what).hexdigest()


class Claim:
    """The right of this process to be the one who fills something. Raises OSError where another one has it.

    A forked child does not have it.
    """

    def __init__(self, what: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(_address(what))
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        _claims.add(self)

    def answer(self, said: bytes) -> None:
        """Tell it to all who have asked. Nothing waits."""
        with contextlib.suppress(OSError):
            for _ in range(_BACKLOG):
                with self._socket.accept()[0] as asking, contextlib.suppress(OSError):
                    asking.setblocking(False)
                    asking.send(said[:_MOST_ANSWER])

    def close(self) -> None:
        _claims.discard(self)
        self._socket.close()


_claims: weakref.WeakSet[Claim] = weakref.WeakSet()


def holder(what: bytes) -> int | None:
    """Return the process that has this claim; None if nobody has."""
    with socket.socket(socket.AF_UNIX) as asking:
        return _connected(asking, what)


def asked(what: bytes, deadline: float) -> tuple[int, bytes] | None:
    """Return the process that has this claim, and what it says; None if nobody has. Raises Timeout."""
    with socket.socket(socket.AF_UNIX) as asking:
        pid = _connected(asking, what)
        if pid is None:
            return None
        asking.settimeout(min(max(0.001, deadline - time.monotonic()), 1e6))
        try:
            said = asking.recv(_MOST_ANSWER)
        except TimeoutError:
            raise Timeout(f"process {pid} did not say what it does before the timeout: ask again") from None
        except OSError:
            said = b""
        # It ended meanwhile, or has let go.
        return (pid, said) if said else None


def _connected(asking: socket.socket, what: bytes) -> int | None:
    asking.setblocking(False)
    try:
        asking.connect(_address(what))
    except OSError:
        return None
    credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[0]


def _abandon() -> None:
    for claim in list(_claims):
        claim.close()


os.register_at_fork(after_in_child=_abandon)
