"""NumPy's own tests, with our functions in the place of NumPy's: `make test-numpy`.

The tests ship in NumPy's wheel. Our `concatenate`, `stack`, `block` and `copyto` are put wherever NumPy's code and
tests find theirs, before a test is collected. Left out are only tests of what a replacement cannot be: NumPy's own
objects, or too large for the machine; each is named here with its reason.

`python tests/numpy_suite.py [arguments for pytest]`
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import ndshare as nds

FUNCTIONS = ("concatenate", "stack", "block", "copyto")
PLACES = (
    "numpy",
    "numpy._core",
    "numpy._core.numeric",
    "numpy._core.multiarray",
    "numpy._core.fromnumeric",
    "numpy._core.shape_base",
)
MODULES = (
    "numpy._core.tests.test_shape_base",
    "numpy._core.tests.test_multiarray",
    "numpy._core.tests.test_mem_overlap",
    "numpy._core.tests.test_api",
    "numpy._core.tests.test_stringdtype",
    "numpy._core.tests.test_regression",
    "numpy.lib.tests.test_function_base",
    "numpy.lib.tests.test_shape_base",
)
# By the name of the test; those with parameters are left out for our functions only.
LEFT_OUT = {
    "test_huge_list_error": "makes a list of 2**31 entries",
    "test_c_func_dispatcher_text_signature": "looks for NumPy's wrapper around the function",
    "test_c_func_dispatcher_signature": "looks for the signature object that NumPy's wrapper carries",
}


def reason(item: pytest.Item) -> str | None:
    """Return why a test is left out, or None."""
    name, _, parameter = item.name.partition("[")
    return LEFT_OUT.get(name) if not parameter or parameter.rstrip("]") in FUNCTIONS else None


class LeaveOut:
    """Takes the tests that are left out from those that were collected, and says which they were."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect by name."""
        out = [item for item in items if reason(item)]
        items[:] = [item for item in items if item not in out]
        config.hook.pytest_deselected(items=out)
        for item in out:
            print(f"left out: {item.name}: {reason(item)}")


def patch() -> int:
    """Put our functions in the place of NumPy's; return how many were replaced."""
    count = 0
    for place in PLACES:
        module = importlib.import_module(place)
        for name in FUNCTIONS:
            if hasattr(module, name):
                setattr(module, name, getattr(nds, name))
                count += 1
    return count


def main(arguments: list[str]) -> int:
    """Run the tests and return pytest's exit status."""
    print(f"NumPy {np.__version__}: {patch()} functions replaced")
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(Path(np.__file__).parent)]
    return int(pytest.main([*options, "--pyargs", *MODULES, *arguments], plugins=[LeaveOut()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
