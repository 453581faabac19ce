"""What the tests share: fresh interpreters, obedient children, and eyes on /proc.

Nothing here mocks anything. `run` starts a new interpreter in a session of its own; `Puppet` is a child that
joins this one. Both are real processes, and both are gone when the test is.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import itertools
import mmap
import multiprocessing as mp
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

import ndshare as nds
import workers
from ndshare import _native

HERE = Path(__file__).resolve().parent
METHODS = ("fork", "spawn", "forkserver")
MIB = 1 << 20
# How often crash tests go round; once in `make test`.
ROUNDS = int(os.environ.get("NDSHARE_CRASH_ROUNDS", "1"))
HANG = 60.0  # seconds after which something counts as hung, on the slowest machine


# ---- fresh interpreters ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How an interpreter ended: exit status (negative for a signal), and what it wrote."""

    code: int
    out: str
    err: str

    def clean(self) -> str:
        """Return what it printed, having checked that it ended well and wrote nothing to stderr."""
        assert self.code == 0, f"exit status {self.code}\n{self.out}\n{self.err}"
        assert not self.err, f"stderr is not empty:\n{self.err}"
        return self.out


# What a program says to use all its descriptors up; it imports os and resource.
NO_DESCRIPTORS = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
"""

_numbers = itertools.count()


@functools.cache
def scripts() -> Path:
    """Return the directory of this run's programs."""
    path = Path(tempfile.mkdtemp(prefix="ndshare-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def script(source: str) -> Path:
    """Write a program to a file, so that spawned children can import it, and return its path."""
    path = scripts() / f"script{next(_numbers)}.py"
    path.write_text(textwrap.dedent(source))
    return path


def environment(**changes: str | None) -> dict[str, str]:
    """Return this environment without any session of ours, and with `changes` (None removes a name)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NDSHARE_")}
    env["PYTHONPATH"] = str(HERE)
    for name in ("PYTHONUNBUFFERED", "RUST_BACKTRACE"):
        env.pop(name, None)
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return env


def run(
    source: str,
    *args: str,
    env: dict[str, str] | None = None,
    flags: Sequence[str] = (),
    prefix: Sequence[str] = (),
    before: Callable[[], None] | None = None,
    timeout: float = 2 * HANG,
) -> Done:
    """Run a program in a new interpreter; `before` runs in the child before Python starts."""
    command = [*prefix, sys.executable, *flags, str(script(source)), *args]

    def start() -> None:
        signal.alarm(int(timeout) + 10)  # it outlives exec, and us
        if before is not None:
            before()

    with subprocess.Popen(
        command,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=start,  # noqa: PLW1509  (it only makes a few system calls)
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"hung for {timeout} s\n{out}\n{err}") from None
    return Done(process.returncode, out, err)


def limited(**limits: int) -> Callable[[], None]:
    """Return what sets soft and hard limits by their short names, such as NOFILE=64, in a child."""

    def apply() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    return apply


# ---- children -------------------------------------------------------------------------------------------------------


class Child:
    """A process that runs `function(conn, *args)`, with a pipe to it; it is gone after the context."""

    def __init__(self, function: Callable[..., None], *args: Any, method: str = "fork", daemon: bool = False) -> None:
        context = mp.get_context(method)
        self.conn, theirs = context.Pipe()
        self.process: Any = context.Process(target=_with_pipe, args=(function, theirs, self.conn, *args), daemon=daemon)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def hear(self, timeout: float = HANG) -> Any:
        """Wait for what it says next; EOFError when it is dead."""
        if not self.conn.poll(timeout):
            raise AssertionError(f"process {self.pid} said nothing for {timeout} s")
        return self.conn.recv()

    def tell(self, what: Any = None) -> None:
        self.conn.send(what)

    def kill(self) -> float:
        """Send SIGKILL, wait for the end, and return when it was sent."""
        sent = time.monotonic()
        self.process.kill()  # which may be gone, and that is no error; one that is stopped dies as well
        self.process.join(HANG)
        return sent

    def end(self) -> None:
        """Wait until it ends by itself, and insist that it ends well."""
        self.process.join(HANG)
        assert self.process.exitcode == 0, f"exit status {self.process.exitcode}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.conn.close()
        self.process.close()


def _with_pipe(function: Callable[..., None], conn: Connection, other: Connection, *args: Any) -> None:
    other.close()  # which a forked child inherits
    with contextlib.suppress(EOFError, BrokenPipeError):
        function(conn, *args)
    conn.close()


class Puppet(Child):
    """A child that calls functions of `workers` one at a time, as told, and keeps what they keep."""

    def __init__(self, method: str = "fork", **env: str) -> None:
        with environ(**env):
            super().__init__(workers.obey, method=method, daemon=True)

    def start(self, name: str, *args: Any) -> None:
        """Tell it to call `workers.<name>(*args)` without waiting for the answer."""
        self.tell((name, args))

    def answer(self, timeout: float = HANG) -> Any:
        """Wait for the answer to the oldest call; raise what it raised, EOFError if it died."""
        good, value = self.hear(timeout)
        if not good:
            raise value
        return value

    def do(self, name: str, *args: Any, timeout: float = HANG) -> Any:
        """Call `workers.<name>(*args)` in the child and return its result."""
        self.start(name, *args)
        return self.answer(timeout)

    def end(self) -> None:
        """Let it leave as a process does; insist that it leaves well."""
        if self.process.is_alive():
            self.tell(None)
        super().end()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.process.exitcode is None:
                self.end()
        finally:
            super().__exit__(kind)


@contextmanager
def environ(**changes: str) -> Iterator[None]:
    """Change this process's environment for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def child(target: Callable[..., None], *args: Any, context: Any = None) -> Iterator[Any]:
    """Run a process for a while, a fork unless `context` says otherwise; it is gone afterwards."""
    process = (context or mp.get_context("fork")).Process(target=target, args=args, daemon=True)
    process.start()
    del args  # what was given to the process is its own
    try:
        yield process
    except BaseException:
        if process.is_alive():
            sys.stderr.write(f"process {process.pid} still runs, and stands here:\n{stacks_of(process.pid)}\n")
        raise
    finally:
        process.kill()  # which may be gone, and that is no error
        process.join(HANG)
        process.close()


# ---- what the arena says --------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def with_a_free_port(example: str) -> str:
    """Return an example that may run beside itself: it says the port that everybody uses."""
    return example.replace("127.0.0.1:7447", f"127.0.0.1:{free_port()}")


def held(arena: nds.Arena | None = None) -> int:
    """Return the bytes of blocks that somebody holds."""
    return int(nds.stats(arena)["bytes"])


def wait_until(what: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Look again and again until it is so; False when it never was."""
    end = time.monotonic() + timeout
    pause = 0.001
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return True


def settle(limit: int, arena: nds.Arena | None = None, timeout: float = 20.0) -> int:
    """Wait until at most `limit` bytes are held; return what is held then, or still is."""
    if held(arena) > limit:
        gc.collect()
    wait_until(lambda: held(arena) <= limit, timeout)
    return held(arena)


def pattern(shape: Any, seed: int, dtype: Any = np.uint32) -> np.ndarray[Any, Any]:
    """Return an ordinary array whose contents depend on the seed in every place."""
    count = int(np.prod(shape))
    return ((np.arange(count, dtype=np.uint64) * 2654435761 + seed * 97) >> 5).astype(dtype).reshape(shape)


def shared_pattern(shape: Any, seed: int, arena: nds.Arena | None = None) -> np.ndarray[Any, Any]:
    """Return the same in shared memory."""
    return nds.array(pattern(shape, seed), arena=arena)


def label(thing: object) -> str:
    """Return a name for a test of this: the same in each process that runs tests, so without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(thing))[:60]


pauses: dict[str, float] = {}  # seconds from a death to the end of a survivor's next steps, the longest by name


def note_pause(name: str, seconds: float) -> None:
    """Keep how long survivors took to go on, for the summary at the end of the run."""
    pauses[name] = max(seconds, pauses.get(name, 0.0))


# ---- what the kernel says -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mapping:
    """One arena mapped into one process; sizes in bytes."""

    inode: int
    size: int
    rss: int
    pss: int


_HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+) *(.*)$")


def mappings(pid: int | str = "self") -> list[Mapping]:
    """Return a process's mappings of arenas. One arena may be several, where their flags differ."""
    found: list[Mapping] = []
    fields: dict[str, int] = {}
    inode, ours = 0, False
    for line in [*Path(f"/proc/{pid}/smaps").read_text().splitlines(), "0-0 ---p 0 0:0 0"]:
        if head := _HEAD.match(line):
            if ours:
                found.append(Mapping(inode, fields["Size"], fields["Rss"], fields["Pss"]))
            inode, ours, fields = int(head[1]), head[2].startswith("/memfd:ndshare"), {}
        elif ours and line.endswith(" kB"):
            name, value = line.removesuffix(" kB").split(":")
            fields[name] = int(value) * 1024
    return found


def inodes(pid: int | str = "self") -> set[int]:
    """Return the inodes of the arenas that a process maps; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (OSError, ValueError):
        return set()
    return {int(line.split()[4]) for line in lines if "/memfd:ndshare" in line}


def users(wanted: set[int]) -> list[int]:
    """Return the processes that map any of these arenas."""
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and inodes(p.name) & wanted]


def descriptors(pid: int | str = "self") -> int:
    """Count a process's open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int | str = "self") -> int:
    """Count a process's threads."""
    return len(os.listdir(f"/proc/{pid}/task"))


def threads_of_a_fork() -> int:
    """Fork, and count the child's threads: its first, and those that libraries start after forks, as SciPy 1.18."""
    child = os.fork()
    if not child:
        os._exit(threads())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def children(pid: int) -> list[int]:
    """Return a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def stack_of(pid: int) -> str:
    """Say where in the kernel a process is."""
    lines: list[str] = []
    for name in ("wchan", "syscall", "stack"):
        with contextlib.suppress(OSError):
            lines.append(f"  {name}: {Path(f'/proc/{pid}/{name}').read_text().strip()}")
    return "\n".join(lines)


def stacks_of(pid: int) -> str:
    """Say where a forked child and its children are; each writes its Python stack to standard error (`conftest`)."""
    those = [pid, *children(pid)]
    for one in those:
        os.kill(one, signal.SIGUSR2)
    time.sleep(0.5)  # no condition: who hangs may not come to it
    return "\n".join(f"process {one}:\n{stack_of(one)}" for one in those)


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]


def sleeps(pid: int | None = None, thread: int | None = None) -> bool:
    """Say whether a thread (by default the first) of a process (this one) sleeps on a word of an arena."""
    pid = pid or os.getpid()
    try:
        call = Path(f"/proc/{pid}/task/{thread or pid}/syscall").read_text().split()
        if call[0] != str(FUTEX):
            return False
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (OSError, ValueError):
        return False
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines if "/memfd:ndshare" in line]
    return any(first <= int(call[1], 16) < last for first, last in ranges)


def wait_for_sleeper(pid: int | None = None, thread: int | None = None) -> None:
    """Wait until that thread sleeps on a word of an arena: it is inside a wait of ours then."""
    assert wait_until(lambda: sleeps(pid, thread), HANG), f"nobody sleeps in process {pid or os.getpid()}"


def when_asleep(what: Callable[[], object]) -> threading.Thread:
    """Do something in another thread as soon as the calling thread sleeps on a word of an arena."""
    sleeper = threading.get_native_id()

    def act() -> None:
        wait_for_sleeper(None, sleeper)
        what()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def litter() -> set[str]:
    """Return the names in the places where programs leave shared files."""
    places = ("/dev/shm", "/tmp", "/run", "/var/tmp", "/dev/mqueue", os.path.expanduser("~"))
    found: set[str] = set()
    for place in places:
        if os.path.isdir(place):
            found |= {f"{place}/{name}" for name in os.listdir(place)}
    return found


def ours(names: set[str]) -> set[str]:
    """Return those that could be ours. Other programs use the same places: `psm_` is the SharedMemory of any Python.

    The registry of this user's other programs is none of ours: tests have one in XDG_RUNTIME_DIR.
    """
    others = re.compile(rf"ndshare-tests-|/ndshare-{os.geteuid()}$")
    return {name for name in names if re.search(r"nds|arena|memfd", name, re.I) and not others.search(name)}


# ---- arenas that are written over -----------------------------------------------------------------------------------


class Tables:
    """An arena's file as words, and where its tables are: records of 40 bytes, blocks of 128."""

    def __init__(self, file: int) -> None:
        self.words = memoryview(mmap.mmap(file, os.fstat(file).st_size)).cast("Q")
        self.halves = memoryview(self.words.obj).cast("I")
        participants, self.records, self.blocks = self.halves[11:14]
        self.records_at = _round_up(4096 + participants * 64, 4096)
        self.blocks_at = _round_up(self.records_at + self.records * 40, 4096)
        self.data_at = _round_up(self.blocks_at + self.blocks * 128, 2 * MIB)

    @classmethod
    def of_process(cls, pid: int, arena: str) -> Self:
        """Open the arena of this id that a process has."""
        named = f"/memfd:ndshare:{arena}"
        links = Path(f"/proc/{pid}/fd").iterdir()
        return cls(os.open(next(link for link in links if os.readlink(link).startswith(named)), os.O_RDWR))

    def control(self) -> list[int]:
        """Return where words are of the head, of the first participants, records and blocks."""
        tables = (4096, 128), (self.records_at, 200), (self.blocks_at, 20 * 128)
        return [*range(0, 4096, 8), *(at + word for at, size in tables for word in range(0, size, 8))]

    def try_each(self, ground: Iterable[int], verbs: Sequence[Sequence[str]], target: str) -> dict[int | str, int]:
        """Write over one word after the other, run the command, and put the word back; count the exit statuses."""
        statuses: dict[int | str, int] = {}
        with silence():
            for at, verb in zip(ground, itertools.cycle(verbs), strict=False):
                old = self.words[at // 8]
                for value in {2**64 - 1, 0, old ^ 1, (old + 2**32) & (2**64 - 1)} - {old}:
                    self.words[at // 8] = value
                    status = _native.run_command(["ndshare", *verb, target])
                    statuses[status] = statuses.get(status, 0) + 1
                self.words[at // 8] = old
            statuses["last"] = _native.run_command(["ndshare", "check", target])
        return statuses


def planted(path: Path, what: bytes, at: int, value: bytes) -> None:
    """Write over a file behind the first place where something stands."""
    with path.open("r+b") as file:
        place = file.read().index(what)
        file.seek(place + at)
        file.write(value)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


@contextmanager
def silence() -> Iterator[None]:
    """Send what anything in this process writes nowhere."""
    kept = [os.dup(1), os.dup(2)]
    quiet = os.open("/dev/null", os.O_WRONLY)
    for place in (1, 2):
        os.dup2(quiet, place)
    try:
        yield
    finally:
        for place, file in enumerate(kept, 1):
            os.dup2(file, place)
            os.close(file)
        os.close(quiet)
