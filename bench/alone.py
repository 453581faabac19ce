"""One contestant in a process of its own: `python -m bench.alone CONTESTANT WORK ROWS COLS THREADS [FILE]`.

It prints medians in seconds as one line of JSON: `first` is its first call, planning included; `warm` are calls back to
back; `cold` is the second call after 64 MB of other data were read. A peer that does not read the frame's dtype
converts it inside the clock, into memory that it reuses; a second set of figures, whose names end with `GIVEN`, is for
a frame that was converted outside the clock. Results are compared with SciPy's in double precision, outside the clock.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import scipy.fft

from bench.harness import clock, pin

Array = np.ndarray[Any, Any]
GIVEN = ", float32 given"
COPY = "a copy of the result"
RUST = Path(__file__).resolve().parent.parent / "target/rust_fft/release/librust_fft_bench.so"
OTHER = 64 << 20  # bytes that are read before a cold call
WARM_CALLS, COLD_CALLS = 60, 15  # at most; of long calls as many as take so many seconds, but some
SECONDS, FEWEST = 0.15, 5
CALLS_OF_A_PLAN = 5  # by which the best of a library's plans is found
LINE = 64


@dataclass(frozen=True)
class Task:
    """A work on a frame: which transform, of which dtype, and the dtype into which peers convert before."""

    call: str
    dtype: str
    given: str
    shape: tuple[int, ...]
    threads: int

    @property
    def real(self) -> bool:
        """Say whether the result is a half-spectrum, or comes from one."""
        return self.call in ("rfft2", "convolve")

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axes that are transformed."""
        return (-1,) if self.call == "fft" else (-2, -1)

    @property
    def spectrum(self) -> tuple[int, ...]:
        """Return the shape of the spectrum."""
        return (*self.shape[:-1], self.shape[-1] // 2 + 1) if self.real else self.shape

    @property
    def complex(self) -> np.dtype[Any]:
        """Return the dtype of the spectrum."""
        return np.result_type(self.given, "c8")

    @cached_property
    def frame(self) -> Array:
        """Return a frame: 12 bits in 16, or noise."""
        rng, frame = np.random.default_rng(1), empty(self.shape, self.dtype)
        if frame.dtype.kind == "u":
            frame[:] = rng.integers(0, 4096, self.shape)
        else:
            frame[:] = rng.standard_normal(self.shape)
            if not self.real:
                frame.imag = rng.standard_normal(self.shape)
        return frame

    @cached_property
    def kernel(self) -> Array:
        """Return the filter of a convolution as an image."""
        return np.exp(-np.hypot(*np.ogrid[: self.shape[-2], : self.shape[-1]]) / 5).astype(self.given)

    @cached_property
    def filter(self) -> Array:
        """Return it as a half-spectrum."""
        return scipy.fft.rfft2(self.kernel.astype("f8")).astype(self.complex)

    def expected(self) -> Array:
        """Return SciPy's result in double precision."""
        wide = self.frame.astype("f8" if self.real else "c16")
        if self.call == "convolve":
            return scipy.fft.irfft2(scipy.fft.rfft2(wide) * self.filter, self.shape)
        return getattr(scipy.fft, self.call)(wide)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory that begins with a cache line: no library shall lose by where its data lie."""
    size = prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


class Way:
    """A library's way from a frame to its result; all that it allocates and plans beforehand is made here."""

    modules: tuple[str, ...] = ()  # imported before any clock runs
    converts = True  # it reads no integers
    plans = 1  # of so many the best is taken
    works: tuple[str, ...] | None = None  # if not all
    most_threads: int | None = None
    accuracy: ClassVar[dict[int, float]] = {32: 1e-6, 64: 1e-14}  # errors that pass, by bits
    wisdom: Any = None  # what finds that one again

    def __init__(self, task: Task, frame: Array) -> None:
        self.task, self.frame = task, frame
        self.source = empty(task.shape, task.given) if task.dtype != task.given else frame
        self.out = empty(task.spectrum, task.complex)
        self.back_to = empty(task.shape, task.given) if task.call == "convolve" else None

    @staticmethod
    def input(task: Task) -> Array:
        """Return the frame as the library's users have it."""
        return task.frame

    @classmethod
    def is_there(cls) -> bool:
        """Say whether all is installed that it needs."""
        return all(find_spec(module) for module in cls.modules)

    def load(self) -> None:
        """Convert the frame into memory that is reused, unless the library reads it as it is."""
        if self.source is not self.frame:
            np.copyto(self.source, self.frame)

    def run(self) -> Array:
        """Do the work with what was loaded."""
        if self.task.call != "convolve":
            return self.forward()
        product = self.forward()
        self.multiply(product)
        return self.back(product)

    def whole(self) -> Array:
        """Do all of the work: the conversion, too."""
        self.load()
        return self.run()

    def multiply(self, spectrum: Array) -> None:
        """Multiply a spectrum by the filter."""
        np.multiply(spectrum, self.task.filter, out=spectrum)

    def forward(self) -> Array:
        """Transform."""
        raise NotImplementedError

    def back(self, product: Array) -> Array:
        """Transform back."""
        raise NotImplementedError

    def compared(self, result: Array, expected: Array) -> tuple[Array, Array]:
        """Return the numbers that are compared."""
        return result, expected


class Ours(Way):
    """Ours: it reads the frame as it is, and filters in one call."""

    modules = ("ndshare",)
    converts = False

    def __init__(self, task: Task, frame: Array) -> None:
        import ndshare as nds

        self.task = task
        self.frame = self.source = frame
        fft = nds.fft
        if task.call == "fft":
            out = nds.empty(task.spectrum, task.complex)
            self.forward = lambda: fft.fft(frame, out=out, workers=task.threads)
            return
        maker = fft.plan_rfft2 if task.real else fft.plan_fft2
        plan = maker(task.shape, frame.dtype, task.complex, workers=task.threads)
        if task.call == "convolve":
            image, convolution = nds.empty(task.shape, task.given), plan.convolve(task.filter)
            self.run = lambda: convolution(frame, out=image)
        else:
            spectrum = nds.empty(task.spectrum, task.complex)
            self.forward = lambda: plan(frame, out=spectrum)

    @staticmethod
    def input(task: Task) -> Array:
        """Return a shared frame."""
        import ndshare as nds

        return nds.array(task.frame)


class Mkl(Way):
    """MKL by mkl_fft."""

    modules = ("mkl", "mkl_fft")

    def __init__(self, task: Task, frame: Array) -> None:
        import mkl
        import mkl_fft

        super().__init__(task, frame)
        mkl.set_num_threads(task.threads)
        where = {"axis": -1} if task.call == "fft" else {"axes": task.axes}
        transform = getattr(mkl_fft, "rfftn" if task.real else task.call)
        self.forward = lambda: transform(self.source, out=self.out, **where)
        self.back = lambda product: mkl_fft.irfftn(product, s=task.shape, out=self.back_to, **where)


class Ducc(Way):
    """ducc0."""

    modules = ("ducc0",)

    def __init__(self, task: Task, frame: Array) -> None:
        import ducc0

        super().__init__(task, frame)
        transform = ducc0.fft.r2c if task.real else ducc0.fft.c2c
        same = {"axes": [axis % len(task.shape) for axis in task.axes], "nthreads": task.threads}
        last = {"lastsize": task.shape[-1], "forward": False, "inorm": 2}
        self.forward = lambda: transform(self.source, out=self.out, **same)
        self.back = lambda product: ducc0.fft.c2r(product, out=self.back_to, **same, **last)


class Fftw(Way):
    """FFTW by pyFFTW: it measures which plan is best, and finds another one each time.

    That can take ten seconds, so a file keeps the best one of three for later processes.
    """

    modules = ("pyfftw",)
    plans = 3

    def __init__(self, task: Task, frame: Array) -> None:
        import pyfftw

        super().__init__(task, frame)
        pyfftw.forget_wisdom()
        if self.wisdom:
            pyfftw.import_wisdom(self.wisdom)
        self.source = empty(task.shape, task.given)  # planning writes into it
        same = {"axes": task.axes, "threads": task.threads}
        self.plan = pyfftw.FFTW(self.source, self.out, flags=("FFTW_MEASURE",), **same)
        if self.back_to is not None:
            flags = ("FFTW_MEASURE", "FFTW_DESTROY_INPUT")
            back = pyfftw.FFTW(self.out, self.back_to, direction="FFTW_BACKWARD", flags=flags, **same)
            self.back_plan, self.scaled = back, task.filter / prod(task.shape)
        self.wisdom = pyfftw.export_wisdom()

    def forward(self) -> Array:
        """Execute the plan."""
        self.plan.execute()
        return self.out

    def multiply(self, spectrum: Array) -> None:
        """Multiply by the filter and by what FFTW leaves to its callers."""
        np.multiply(spectrum, self.scaled, out=spectrum)

    def back(self, product: Array) -> Array:  # noqa: ARG002  (it lies where the plan reads)
        """Execute the other plan."""
        self.back_plan.execute()
        return self.back_to


class Scipy(Way):
    """SciPy, which has no `out`."""

    def forward(self) -> Array:
        """Transform."""
        call = getattr(scipy.fft, "rfft2" if self.task.real else self.task.call)
        return call(self.source, workers=self.task.threads)

    def back(self, product: Array) -> Array:
        """Transform back."""
        return scipy.fft.irfft2(product, self.task.shape, overwrite_x=True, workers=self.task.threads)


class Rust(Way):
    """A crate, whose plans `bench/rust_fft` makes C functions of; it transforms two axes of real numbers."""

    crate: str
    works = ("rfft2-uint16",)

    def __init__(self, task: Task, frame: Array) -> None:
        super().__init__(task, frame)
        library = ctypes.CDLL(str(RUST))
        plan, run = getattr(library, f"plan_{self.crate}"), library.run
        plan.argtypes, plan.restype = [ctypes.c_size_t] * 3, ctypes.c_void_p
        run.argtypes, run.restype = [ctypes.c_void_p] * 3, ctypes.c_bool
        made = plan(*task.shape, task.threads)
        self.transform = partial(run, made, self.source.ctypes.data, self.out.ctypes.data)

    def forward(self) -> Array:
        """Transform."""
        if not self.transform():
            raise RuntimeError(f"{self.crate} does not transform {self.task.shape}")
        return self.out

    @classmethod
    def is_there(cls) -> bool:
        """Say whether it is built."""
        return RUST.exists()


class Zaft(Rust):
    """zaft, with AVX. It leaves its result transposed, which spares it a transposition."""

    crate = "zaft"

    def compared(self, result: Array, expected: Array) -> tuple[Array, Array]:
        """Take columns for rows."""
        return result.reshape(result.shape[::-1]).T, expected


class Oxifft(Rust):
    """oxifft, with AVX-512; it has one thread. Its error grows with the frame: 1.5e-6 of 2048 x 2048."""

    crate, most_threads = "oxifft", 1
    accuracy: ClassVar[dict[int, float]] = {32: 4e-6}


class Copy(Way):
    """No transform: a copy of as many bytes as the result has."""

    converts = False

    def __init__(self, task: Task, frame: Array) -> None:
        super().__init__(task, frame)
        self.source = frame
        self.other = empty(task.spectrum, task.complex)
        self.other.fill(1)

    def forward(self) -> Array:
        """Copy."""
        np.copyto(self.out, self.other)
        return self.out

    def compared(self, result: Array, expected: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """Compare the copy with what was copied."""
        return result, self.other


class Numpy(Way):
    """NumPy in the precision of the result."""

    def forward(self) -> Array:
        """Transform."""
        return np.fft.rfft2(self.source)


class OpenCV(Way):
    """OpenCV, whose half-spectra are packed into as many numbers as the frame has."""

    modules = ("cv2",)

    def __init__(self, task: Task, frame: Array) -> None:
        import cv2

        super().__init__(task, frame)
        cv2.setNumThreads(task.threads)
        self.packed, flags = empty(task.shape, task.given), cv2.DFT_ROWS if task.call == "fft" else 0
        planes = list(zip(self._planes(self.source), self._planes(self.packed), strict=True))
        self.dft: Callable[[], object] = lambda: [cv2.dft(x, out, flags=flags) for x, out in planes]
        if self.back_to is not None:
            packed, flags_back = cv2.dft(task.kernel), cv2.DFT_INVERSE | cv2.DFT_SCALE
            self.multiply = lambda spectrum: cv2.mulSpectrums(spectrum, packed, 0, spectrum)
            self.back = lambda product: cv2.dft(product, self.back_to, flags=flags_back)

    def _planes(self, x: Array) -> list[Array]:
        """Return a stack as its planes, and complex numbers as two channels."""
        channels = x if self.task.real else x.view(x.real.dtype).reshape(*x.shape, 2)
        return [channels] if len(self.task.shape) == 2 else list(channels)

    def forward(self) -> Array:
        """Transform."""
        self.dft()
        return self.packed

    def compared(self, result: Array, expected: Array) -> tuple[Array, Array]:
        """Leave out the columns that are packed otherwise: the first, and the last of an even number."""
        if self.task.call != "rfft2":
            return result, expected
        columns = (result.shape[-1] - 1) // 2
        middle = np.ascontiguousarray(result[..., 1 : 1 + 2 * columns]).view(self.task.complex)
        return middle, expected[..., 1 : 1 + columns]


class AsCalled(Way):
    """What people call with the frame as it is; its result is in double precision."""

    converts = False
    library: Any

    def __init__(self, task: Task, frame: Array) -> None:
        self.task = task
        self.frame = self.source = frame

    def forward(self) -> Array:
        """Transform."""
        return self.library.rfft2(self.source)


class NumpyAsCalled(AsCalled):
    """`np.fft.rfft2`."""

    library = np.fft


class ScipyAsCalled(AsCalled):
    """`scipy.fft.rfft2`."""

    library = scipy.fft


CONTESTANTS: dict[str, type[Way]] = {
    "ndshare": Ours,
    "mkl_fft": Mkl,
    "ducc0": Ducc,
    "OpenCV": OpenCV,
    "pyFFTW": Fftw,
    "SciPy": Scipy,
    "zaft": Zaft,
    "oxifft": Oxifft,
    COPY: Copy,
    "NumPy": Numpy,
    "np.fft.rfft2": NumpyAsCalled,
    "scipy.fft.rfft2": ScipyAsCalled,
}
# What each work calls, the dtype of its frame, the dtype into which peers convert, and how many frames are one stack.
WORKS = {
    "rfft2-uint16": ("rfft2", "u2", "f4", ()),
    "rfft2-stack": ("rfft2", "u2", "f4", (32,)),
    "rfft2-float64": ("rfft2", "f8", "f8", ()),
    "fft2-complex64": ("fft2", "c8", "c8", ()),
    "fft2-complex128": ("fft2", "c16", "c16", ()),
    "fft-complex64": ("fft", "c8", "c8", ()),
    "convolve-uint16": ("convolve", "u2", "f4", ()),
}


def make(kind: type[Way], task: Task, frame: Array) -> tuple[Way, float]:
    """Return a way that has done the work once, and the seconds of that, planning included."""
    start = perf_counter()
    way = kind(task, frame)
    way.whole()
    return way, perf_counter() - start


def calls(work: Callable[[], object], most: int) -> int:
    """Return how often to do some work."""
    return min(most, max(FEWEST, int(SECONDS / clock(work, 2))))


def warm(work: Callable[[], object]) -> float:
    """Return the median of calls back to back."""
    return median([clock(work) for _ in range(calls(work, WARM_CALLS))])


def cold(work: Callable[[], object], other: Array) -> float:
    """Return the median of second calls after other data were read."""

    def second() -> float:
        other.sum()
        work()
        return clock(work)

    return median([second() for _ in range(calls(work, COLD_CALLS))])


def check(way: Way, result: Array, expected: Array) -> None:
    """Fail when a result is another than SciPy's."""
    result, expected = way.compared(result, expected)
    error = np.linalg.norm(result - expected) / np.linalg.norm(expected)
    if not error < way.accuracy[np.finfo(way.task.given).bits]:
        raise AssertionError(f"{type(way).__name__} has another result: the error is {error:.2g}")


def best(kind: type[Way], task: Task, frame: Array, kept: Path | None) -> tuple[Way, dict[str, float]]:
    """Return the best of a library's plans, or the one that an earlier process kept, and what the first took."""
    if kept and kept.exists():
        kind.wisdom = pickle.loads(kept.read_bytes())
        return make(kind, task, frame)[0], {}
    way, first = make(kind, task, frame)
    ways = [way, *[make(kind, task, frame)[0] for _ in range(1, kind.plans)]]
    way = min(ways, key=lambda way: min(clock(way.run) for _ in range(CALLS_OF_A_PLAN)))
    if kept and way.wisdom:
        kept.write_bytes(pickle.dumps(way.wisdom))
    return way, {"first": first}


def measure(kind: type[Way], task: Task, kept: Path | None) -> dict[str, float]:
    """Return the figures of a contestant."""
    for module in kind.modules:
        importlib.import_module(module)
    if task.call == "convolve":
        _ = task.filter  # computed here, before any clock
    frame = kind.input(task)
    way, figures = best(kind, task, frame, kept)
    other, expected = np.ones(OTHER // 8), task.expected()
    both = kind.converts and task.dtype != task.given
    works = {"": way.whole, GIVEN: way.run} if both else {"": way.run}
    # What is not measured (allocations, threads of BLAS) comes after everything that is.
    figures |= {f"warm{suffix}": warm(work) for suffix, work in works.items()}
    figures |= {f"cold{suffix}": cold(work, other) for suffix, work in works.items()}
    for work in works.values():
        check(way, work(), expected)
    return figures


def as_measured(threads: int) -> None:
    """Set up this process: so many threads, on one core where there is one, and nothing in between."""
    # MKL's idle threads would otherwise spin for 0.2 s after each call.
    os.environ |= {"KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    pin(0 if threads == 1 else None)
    gc.disable()


def main() -> None:
    """Set up this process, measure, and print."""
    contestant, work, rows, cols, threads, *kept = sys.argv[1:]
    as_measured(int(threads))
    call, dtype, given, stack = WORKS[work]
    task = Task(call, dtype, given, (*stack, int(rows), int(cols)), int(threads))
    print(json.dumps(measure(CONTESTANTS[contestant], task, Path(kept[0]) if kept else None)))


if __name__ == "__main__":
    main()
