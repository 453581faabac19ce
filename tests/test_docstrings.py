"""Every public name says what it is, and shows it by an example that runs.

What can be called has an example of its own, or is called in that of its class. `test_docs.py` runs those of `ndshare`
itself; those of the other modules run here, each module in a process of its own.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import ndshare as nds
from helpers import HANG, environment, free_port

MODULES = ["ndshare", "ndshare.fft", "ndshare.net"]
RUN = """
import doctest, inspect, sys
module = __import__(sys.argv[1], fromlist=["x"])
runner, finder = doctest.DocTestRunner(), doctest.DocTestFinder(recurse=False)
tests = finder.find(module, sys.argv[1], module=False)
for name in module.__all__:
    public = getattr(module, name)
    finder = doctest.DocTestFinder(recurse=inspect.isclass(public))
    tests += [] if name.startswith("__") else finder.find(public, name, module=False)
for test in tests:
    for example in test.examples:
        # One that listens says the port that everybody uses; these may run beside themselves.
        example.source = example.source.replace("127.0.0.1:7447", "127.0.0.1:" + sys.argv[2])
    runner.run(test)
print(runner.tries, runner.failures)
sys.exit(runner.failures > 0)
"""


def module_named(name: str) -> ModuleType:
    if name == "ndshare.net":
        pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    return __import__(name, fromlist=["x"])


def public_things(module: ModuleType) -> Iterator[tuple[str, Any, Any]]:
    """Go through what is public of a module: its name, it, and the class that it belongs to."""
    for name in module.__all__:
        public = getattr(module, name)
        if name.startswith("__") or inspect.ismodule(public):
            continue
        yield name, public, None
        if inspect.isclass(public):
            for one in inspect.classify_class_attrs(public):
                if not one.name.startswith("_") and one.defining_class.__module__.startswith("ndshare"):
                    yield f"{name}.{one.name}", one.object, public


def faults(module: ModuleType) -> list[str]:
    """Return what of a module says nothing of itself, or shows nothing."""
    found: list[str] = []
    for name, thing, cls in public_things(module):
        doc = inspect.getdoc(thing) or ""
        if cls is not None and not callable(thing):
            is_described = bool(doc) or re.search(rf"`{name.rpartition('.')[2]}`", inspect.getdoc(cls) or "")
            found += [] if is_described else [f"{name} says nothing"]
            continue
        called = re.compile(rf"^(>>>|\.\.\.) .*\.{name.rpartition('.')[2]}\(", re.MULTILINE)
        is_shown = ">>> " in doc or (cls is not None and called.search(inspect.getdoc(cls) or ""))
        found += [] if is_shown else [f"{name} shows nothing"]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring_with_an_example(name: str) -> None:
    assert faults(module_named(name)) == []


@pytest.mark.parametrize("name", MODULES[1:])
def test_the_examples_run(name: str) -> None:
    module_named(name)
    command = [sys.executable, "-c", RUN, name, str(free_port())]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    tries = int(done.stdout.split()[-2])
    assert tries > len(module_named(name).__all__), "hardly an example was found"


def test_what_is_missing_is_seen() -> None:
    class Plain:
        """A class."""

        def quiet(self) -> None: ...

        def called(self) -> None:
            """Be called."""

    Plain.__module__ = "ndshare"
    module = ModuleType("missing", "")
    module.__dict__.update(__all__=["Plain", "zeros"], Plain=Plain, zeros=nds.zeros)
    assert faults(module) == ["Plain shows nothing", "Plain.called shows nothing", "Plain.quiet shows nothing"]
    Plain.__doc__ = "A class.\n\n>>> Plain().called()\n"
    assert faults(module) == ["Plain.quiet shows nothing"]
