"""SciPy's and NumPy's own tests of their transforms, with ours in their place: `make test-scipy`.

The tests ship in the wheels. There are three parts, each in a process of its own:

- `backend`: the tests of `scipy.fft` while ours is its backend. What we do not have (cosine transforms, Hankel
  transforms) SciPy does; how often is counted.
- `names`: the tests of SciPy's engine `scipy.fft._pocketfft`, whose names are ours.
- `numpy`: the tests of `numpy.fft`, whose names are ours.

Left out are only tests of what a replacement cannot be, and the few on which SciPy and NumPy contradict each other;
each is named here with its reason.

`python tests/scipy_suite.py [PART [arguments for pytest]]`
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
import scipy.fft
import scipy.fft._pocketfft
import scipy.fft._pocketfft.basic

import ndshare as nds
from ndshare.fft import _backend

CHILD = "NDSHARE_SCIPY_SUITE_CHILD"
HELPERS = ("fftfreq", "rfftfreq", "fftshift", "ifftshift", "next_fast_len")
MODULES = {
    "backend": [
        f"scipy.fft.tests.test_{name}"
        for name in ("basic", "helper", "multithreading", "fftlog", "backend", "real_transforms")
    ],
    "names": ["scipy.fft._pocketfft.tests.test_basic", "scipy.fft._pocketfft.tests.test_real_transforms"],
    "numpy": ["numpy.fft.tests.test_pocketfft", "numpy.fft.tests.test_helper"],
}
# By the name of the test, in each part.
MESSAGE = "wants NumPy's words for an error; ours are SciPy's, and SciPy's tests insist on those"
WARNING = "wants a warning of NumPy for arguments that SciPy takes, or refuses, without one"
LEFT_OUT: dict[str, dict[str, str]] = {
    "backend": {},
    "names": {},
    "numpy": {
        "test_ifft": MESSAGE,
        "test_rfftn": "transforms an axis twice, which SciPy refuses and its tests insist on",
        "test_s_axes_none": WARNING,
        "test_s_axes_none_2D": WARNING,
        "test_s_contains_none": WARNING,
    },
}


class Counted:
    """Counts how many calls the backend answers, and which it leaves to SciPy."""

    def __init__(self) -> None:
        self.ours: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.answer: Callable[..., Any] = _backend.__ua_function__

    def __call__(self, method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer, and count."""
        answer = self.answer(method, args, kwargs)
        (self.left if answer is NotImplemented else self.ours)[method.__name__] += 1
        return answer


def patch_backend() -> Counted:
    """Make ours SciPy's backend."""
    counted = Counted()
    # SciPy's tests start their children by a forkserver, which shall know our backend, too.
    os.environ[CHILD] = "1"
    multiprocessing.set_forkserver_preload(["scipy_suite"])
    nds.fft.__ua_function__ = counted
    nds.fft.install()
    for name in HELPERS:
        setattr(scipy.fft, name, getattr(nds.fft, name))
        setattr(scipy.fft._helper, name, getattr(nds.fft, name))
    return counted


def patch_names(places: list[Any]) -> int:
    """Put our functions in the place of others; return how many were replaced."""
    count = 0
    for place in places:
        for name in (*_backend.NAMES, *HELPERS):
            if hasattr(place, name):
                setattr(place, name, getattr(nds.fft, name))
                count += 1
    return count


class LeaveOut:
    """Takes the tests that are left out from those that were collected, and says which they were."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect by name."""
        out = [item for item in items if self.reason(item)]
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)
        for item in out:
            print(f"left out: {item.name}: {self.reason(item)}")

    def reason(self, item: pytest.Item) -> str | None:
        """Return why a test is left out, or None."""
        return self.reasons.get(item.name) or self.reasons.get(item.name.partition("[")[0])


def run(part: str, arguments: list[str]) -> int:
    """Run one part in this process and return pytest's exit status."""
    counted = None
    if part == "backend":
        counted = patch_backend()
        print(f"SciPy {scipy.__version__}: our backend", flush=True)
    else:
        places = [np.fft] if part == "numpy" else [scipy.fft._pocketfft, scipy.fft._pocketfft.basic]
        print(f"{part}: {patch_names(places)} functions replaced", flush=True)
    root = Path((np if part == "numpy" else scipy).__file__).parent
    # Away from the configuration of our own tests; nothing here may be in the way of an import.
    os.chdir(tempfile.mkdtemp())
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(root)]
    status = int(pytest.main([*options, "--pyargs", *MODULES[part], *arguments], plugins=[LeaveOut(LEFT_OUT[part])]))
    if counted:
        print(f"answered by us: {counted.ours.total()} calls of {len(counted.ours)} functions")
        print(f"left to SciPy: {counted.left.total()} calls of {', '.join(sorted(counted.left))}")
        wrong = sorted(set(counted.left) & set(_backend.NAMES))
        if wrong:
            print(f"ours, but left to SciPy: {', '.join(wrong)}")
            status = status or 1
    return status


def main(arguments: list[str]) -> int:
    """Run the part that is asked for, or all one after another."""
    if arguments and arguments[0] in MODULES:
        return run(arguments[0], arguments[1:])
    return max(subprocess.run([sys.executable, __file__, part, *arguments], check=False).returncode for part in MODULES)


if CHILD in os.environ:
    nds.fft.install()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
