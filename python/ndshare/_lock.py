"""How locks travel: multiprocessing's pickler sends them by reference, every other pickler refuses."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

from ._native import Lock, lock_token, open_lock


def _reduce(lock: Lock) -> tuple[Any, tuple[bytes]]:
    return open_lock, (lock_token(lock),)


def register() -> None:
    """Make multiprocessing send locks this way."""
    ForkingPickler.register(Lock, _reduce)
