"""Where recorded frames go: one small class for each format, all used alike.

A sink is made for frames of one shape and dtype. `write` takes some of them; what it has counted in `frames` is whole
and readable from then on, also if this process is killed in the next instant: the bytes of a frame come first, and
then the number that says how many there are, in one write that no kill can tear. `close` cuts off what is not whole.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Look(NamedTuple):
    """What all frames of a recording look like, and about how many will come; None where nobody knows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    meta: np.dtype[Any] | None
    expected: int | None = None

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Sink(Protocol):
    """What each format is."""

    frames: int

    def write(self, frames: list[NDArray[Any]]) -> None:
        """Append frames. Raises OSError where the disk is full; `frames` says how many are whole then."""
        ...

    def moved(self, path: Path) -> None:
        """Hear that the file or folder was renamed."""
        ...

    def close(self) -> None:
        """Leave the file as a whole one."""
        ...


class _Format(NamedTuple):
    endings: tuple[str, ...]
    module: str
    sink: str
    package: str | None = None


_FORMATS = {
    "npy": _Format((".npy",), "_rows", "NpySink"),
    "raw": _Format((".raw",), "_rows", "RawSink"),
    "tiff": _Format((".tif", ".tiff"), "_tiff", "TiffSink", "tifffile"),
    "zarr": _Format((".zarr",), "_zarr", "ZarrSink", "zarr"),
}


def format_of(path: Path) -> str:
    """Return the format that the ending of a path says. Raises ValueError for other endings."""
    for name, found in _FORMATS.items():
        if path.suffix.lower() in found.endings:
            return name
    raise ValueError(
        f"expected a path that ends in .npy, .raw, .tif, .ome.tif or .zarr, got {str(path)!r}: the ending says the "
        "format"
    )


def check_format(name: str, look: Look) -> None:
    """Raise where a format cannot have such frames, or its package is not installed."""
    if (package := package_of(name)) is not None:
        need(package)
    getattr(_module(name), "check", _nothing)(look)


def package_of(name: str) -> str | None:
    """Return the package that a format needs."""
    return _FORMATS[name].package


def need(package: str) -> Any:
    """Return a package that is optional. Raises ImportError that says what to install."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        least = "zarr>=3.1" if package == "zarr" else package
        raise ImportError(f"expected {package}, which writes and reads such files: pip install '{least}'") from error


def new_sink(name: str, path: Path, look: Look) -> Sink:
    """Make the file or folder of a recording, which is not there yet."""
    return getattr(_module(name), _FORMATS[name].sink)(path, look)


def _nothing(_: Look) -> None:
    """Every such frame is fine."""


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{_FORMATS[name].module}")
