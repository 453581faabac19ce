"""Rules that hold in every test: it ends, it leaves no bytes behind, and its children are real processes."""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Each process that runs tests counts the bytes of a session of its own, not of one that it was started into.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("NDSHARE_SESSION", None)

# And has a registry of names of its own, as all its children have: nobody else's names are seen in a test, two runs do
# not disturb each other, and what is left in it was left by this run. The path is short: sockets have paths, too.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="ndshare-tests-")

# Before NumPy is imported, here and in all children: they multiply few matrices, and its threads take a fifth of the
# time that a start takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

import helpers
import ndshare as nds

# A shell that starts a run in the background has Ctrl-C ignored, and programs inherit that. Ours have to answer it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A forked child that hangs is asked where it is.
faulthandler.register(signal.SIGUSR2)

RUNTIME = Path(os.environ["XDG_RUNTIME_DIR"])
SECONDS = 240  # a test that takes longer hangs; long ones say so with their own `timeout` mark

settings.register_profile(
    "ndshare", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("ndshare")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded.*:DeprecationWarning")
    config.stash[_stderr] = os.dup(2)


def pytest_unconfigure() -> None:
    shutil.rmtree(RUNTIME, ignore_errors=True)


_stderr = pytest.StashKey[int]()


# What a test calls, or has as a fixture, that keeps it from going on in several threads at once, and why.
ALONE = {
    "counts what all threads have": (
        "active_count blocks descriptors held inodes mappings refcount settle stats threads tracemalloc warm_bytes"
    ),
    "starts processes, and a fork beside threads may hang": (
        "Child FORK Pool Popen Process ProcessPoolExecutor Puppet Storm child fork forked get_context method "
        "passed pipe run running witness"
    ),
    "changes the whole process": (
        "alarm collect environ interrupted_after kill_at monkeypatch raise_signal setitimer setlocale setrlimit signal "
        "silence stop_at"
    ),
    "has to keep up": "_camera",
}


def _names_in(code: types.CodeType) -> set[str]:
    """Return what a function and those inside it call."""
    inner = [_names_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(code.co_freevars, *inner)


def _why_alone(item: pytest.Item) -> str | None:
    """Say why a test cannot go on in several threads at once, as pytest-run-parallel would have it; None if it can."""
    named = _names_in(item.function.__code__).union(item.fixturenames) if isinstance(item, pytest.Function) else set()
    return next((reason for reason, words in ALONE.items() if named & set(words.split())), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if config.getoption("parallel_threads", 1) != 1 and (reason := _why_alone(item)):
            item.add_marker(pytest.mark.thread_unsafe(reason=reason))
        mark = item.get_closest_marker("timeout")
        seconds = mark.args[0] if mark else SECONDS
        # By a signal only the test ends, and not the whole run. Where that is not enough there is the watchdog.
        item.add_marker(pytest.mark.timeout(seconds, method="signal"), append=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was measured here to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["pauses"] = helpers.pauses


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process that ran tests measured; one that crashed has nothing."""
    for name, seconds in getattr(node, "workeroutput", {}).get("pauses", {}).items():
        helpers.pauses[name] = max(seconds, helpers.pauses.get(name, 0.0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report how soon survivors went on after deaths."""
    slowest = sorted(helpers.pauses, key=lambda name: -helpers.pauses[name])[:3]
    if slowest:
        times = ", ".join(f"{1000 * helpers.pauses[name]:.1f} ms ({name})" for name in slowest)
        terminalreporter.write_line(f"survivors went on after a death within {times}")


@pytest.fixture(scope="module", autouse=True)
def _unseen_by_the_collector() -> None:
    """Keep the collector, above all in forked children, from walking over all that the run has loaded so far."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _watchdog(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the run when even Python's own clock hands don't move, as in a wait that keeps the GIL."""
    mark = request.node.get_closest_marker("timeout")
    seconds = mark.args[0] if mark and mark.args else SECONDS
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=request.config.stash[_stderr])
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _no_bytes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test whose arrays outlive it."""
    before = helpers.held()
    yield
    try:
        after = helpers.settle(before) if not getattr(request.node, "failed", False) else helpers.held()
    except nds.Poisoned as error:  # nothing that comes now would mean anything
        pytest.exit(f"the session's arena is poisoned after {request.node.nodeid}: {error}", returncode=1)
    if not getattr(request.node, "failed", False):
        assert after <= before, f"{after - before} bytes are still held after the test"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    if call.when == "call" and report.failed:
        item.failed = True  # type: ignore[attr-defined]
    return report


@pytest.fixture(params=helpers.METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_on_any_file_system() -> Iterator[None]:
    """Fail when the whole run leaves a file of ours anywhere, or a name in its registry."""
    before = helpers.litter()
    yield
    # Nobody calls `names()` here: that would remove the names of the dead. Browsers have files of their own there.
    ours = {str(path) for path in RUNTIME.rglob("*") if "ndshare" in str(path.relative_to(RUNTIME))}
    left = helpers.ours(helpers.litter() - before) | ours
    assert not left, f"files are left behind: {sorted(left)}"
