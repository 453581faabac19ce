"""NumPy arrays that processes share.

Arrays are plain ``numpy.ndarray``s in an arena that the processes of a session share. multiprocessing passes them
by reference; plain pickle, ``copy`` and ``np.save`` give ordinary NumPy data. An array lives until its last view in
any process is gone.

>>> import ndshare as nds
>>> frame = nds.zeros((1200, 1600), "uint16")
>>> type(frame), nds.is_shared(frame[::2])
(<class 'numpy.ndarray'>, True)

Every call that may wait lets other threads run and answers Ctrl-C: signals are looked at about every 20 ms, and a
handler that raises ends the call. ``NDSHARE_BUDGET`` ("8 GiB") sets the most bytes of a session that may be held.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "linux":
    _wait_for_room = importlib.import_module("ndshare._descriptors").start()
else:
    raise ImportError(f"ndshare needs Linux (sealed memory files, /proc), got {sys.platform!r}; nothing to install")

from numpy import __version__ as _numpy

if int(_numpy.partition(".")[0]) < 2:
    raise ImportError(f"expected NumPy 2.0 or newer, got {_numpy}: pip install --upgrade 'numpy>=2'")

if tuple(map(int, _numpy.split(".")[:2])) < (2, 4):
    # Later ones refuse it themselves.
    importlib.import_module("ndshare._interpreters").refuse_others()

try:
    importlib.import_module("ndshare._native")
except ModuleNotFoundError as _error:
    if _error.name != "ndshare._native":
        raise
    raise ImportError(
        f"expected ndshare's compiled part, _native, in {os.path.dirname(__file__)}, got none that Python "
        f"{sys.version.split()[0]} loads: pip install --force-reinstall ndshare, or, in its sources, pip install ."
    ) from None

from . import _cache, _copies, _lock, _overlay, _ring, _session, _travel
from ._arrays import array, asarray, empty_like, full, full_like, ones, ones_like, zeros_like
from ._c_api import get_include, get_library
from ._cache import file_key
from ._copies import warn_copies
from ._errors import (
    ArenaFull,
    AttachError,
    Closed,
    CopyWarning,
    Empty,
    Error,
    Full,
    LoadError,
    OwnerDied,
    Poisoned,
    ReadOnly,
    RecordError,
    Refused,
    Stale,
    Timeout,
    WorkerDied,
    WriterDied,
)
from ._files import load, save
from ._names import attach, names, publish, unpublish
from ._native import (
    Arena,
    Cache,
    Canvas,
    Lock,
    OfferedRing,
    Overlay,
    Reader,
    Ring,
    Writer,
    __version__,
    allocating,
    block,
    concatenate,
    copyto,
    empty,
    locked,
    reclaim,
    stack,
    stats,
    zeros,
)
from ._ref import Ref, ref
from ._ring import Frame
from ._session import session
from ._shared import is_shared
from ._travel import _open_array as _open_array  # pyright: ignore[reportPrivateUsage]  (pickles name it here)

if TYPE_CHECKING:
    from . import fft
    from ._clock import Clock
    from ._enable import enable
    from ._executor import ProcessPoolExecutor
    from ._join import FrameSet, Join, join
    from ._pipe import Pipe, pipe
    from ._record import Recording, record
    from ._replay import Replay, replay
    from ._view import Viewer, view

__all__ = [
    "Arena",
    "ArenaFull",
    "AttachError",
    "Cache",
    "Canvas",
    "Clock",
    "Closed",
    "CopyWarning",
    "Empty",
    "Error",
    "Frame",
    "FrameSet",
    "Full",
    "Join",
    "LoadError",
    "Lock",
    "OfferedRing",
    "Overlay",
    "OwnerDied",
    "Pipe",
    "Poisoned",
    "ProcessPoolExecutor",
    "ReadOnly",
    "Reader",
    "RecordError",
    "Recording",
    "Ref",
    "Refused",
    "Replay",
    "Ring",
    "Stale",
    "Timeout",
    "Viewer",
    "WorkerDied",
    "Writer",
    "WriterDied",
    "__version__",
    "allocating",
    "array",
    "asarray",
    "attach",
    "block",
    "concatenate",
    "copyto",
    "empty",
    "empty_like",
    "enable",
    "fft",
    "file_key",
    "full",
    "full_like",
    "get_include",
    "get_library",
    "is_shared",
    "join",
    "load",
    "locked",
    "names",
    "ones",
    "ones_like",
    "pipe",
    "publish",
    "reclaim",
    "record",
    "ref",
    "replay",
    "save",
    "session",
    "stack",
    "stats",
    "unpublish",
    "view",
    "warn_copies",
    "zeros",
    "zeros_like",
]


_LATE = {
    "Clock": "._clock",
    "FrameSet": "._join",
    "Join": "._join",
    "Pipe": "._pipe",
    "ProcessPoolExecutor": "._executor",
    "Recording": "._record",
    "Replay": "._replay",
    "Viewer": "._view",
    "enable": "._enable",
    "fft": ".fft",
    "join": "._join",
    "pipe": "._pipe",
    "record": "._record",
    "replay": "._replay",
    "view": "._view",
}


def __getattr__(name: str) -> Any:
    """Import what takes long at its first use."""
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = importlib.import_module(module, __name__)
    globals()[name] = found = found if module == f".{name}" else getattr(found, name)
    return found


def __dir__() -> list[str]:
    """List the public names, also those that are imported late, and no others."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))})


_travel.register()
_lock.register()
_overlay.register()
_ring.register()
_cache.register()
_wait_for_room()
_session.start()
_copies.start()
if os.environ.get("NDSHARE_ENABLE"):
    importlib.import_module("._enable", __name__).start()
