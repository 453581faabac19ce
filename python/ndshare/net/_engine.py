"""Which engine moves the bytes: `ndshare_zenoh` where it is installed, else eclipse-zenoh. They talk to each other.

Both are Zenoh. `ndshare_zenoh` (`docs/net.md`, "A faster engine") sends buffers as they are, and copies what comes
straight to where it is to be; eclipse-zenoh takes and gives bytes. What differs between the two is here alone.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import zenoh as zenoh  # noqa: PLC0414  (for the other modules)

_VARIABLE = "NDSHARE_NET_ENGINE"
_ENGINES = {"ndshare_zenoh": "ndshare_zenoh", "zenoh": "eclipse-zenoh"}


def _chosen() -> str:
    """Return the module of the engine. Raises ImportError where there is none."""
    wanted = os.environ.get(_VARIABLE)
    if wanted is not None and wanted not in _ENGINES:
        raise ImportError(f"expected {_VARIABLE} to be one of {', '.join(_ENGINES)}, got {wanted!r}")
    for name in [wanted] if wanted else _ENGINES:
        if find_spec(name) is not None:
            return name
    if wanted == "ndshare_zenoh":
        raise ImportError(f"expected the engine that {_VARIABLE} names, got none: install {_ENGINES[wanted]}")
    raise ImportError('ndshare.net reaches other machines by Zenoh, which is missing: pip install "ndshare[net]"')


NAME = _chosen()
if not TYPE_CHECKING:
    zenoh = import_module(NAME)

_MAY_LEND = hasattr(zenoh.ZBytes, "copy_into")


def joined(*parts: Any) -> Any:
    """Return buffers as one payload: as they are, or by one copy."""
    return cast("Any", zenoh.ZBytes)(list(parts)) if _MAY_LEND else b"".join(parts)


def gathered(payload: Any) -> Any:
    """Return what came, to be looked at and copied: as it is, or by one copy as bytes."""
    return payload if _MAY_LEND else payload.to_bytes()


def is_fragments(payload: Any) -> bool:
    """Whether this is to be copied by `copy_into`, and is no buffer itself."""
    return _MAY_LEND and isinstance(payload, zenoh.ZBytes)


def fill(target: NDArray[Any], items: Any) -> None:
    """Write items, of which there are as many bytes, into an array of C order."""
    if target.nbytes:
        into = target.view(np.ndarray).reshape(-1).view(np.uint8)
        if is_fragments(items):
            items.copy_into(into)
        else:
            into[:] = items


def is_config(thing: Any) -> bool:
    """Whether this is a configuration object of one of the two."""
    return any(isinstance(thing, getattr(sys.modules.get(name), "Config", ())) for name in _ENGINES)
