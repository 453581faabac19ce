"""One process under one limit does ten things, and says of each how it went: ``limits.py LIMIT REFERENCE``.

It prints a line of JSON after each action, so a signal shows in which one it came. `test_limits_matrix.py` judges them.
A limit that this machine does not permit is said instead (``{"skip": why}``).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import mmap
import multiprocessing as mp
import os
import platform
import resource
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import spawn as _spawn  # noqa: F401  (loaded while there are descriptors)
from pathlib import Path
from typing import Any

import numpy as np

MIB = 1 << 20
SECONDS = 60.0  # after which a child or a wait counts as hung, on the slowest machine
USER = 64321  # who nobody is
libc = ctypes.CDLL(None, use_errno=True)


class NotHereError(Exception):
    """The limit is one that this machine does not permit."""


def permitted(result: int, what: str) -> None:
    """Skip when the system refused a step on the way to the limit."""
    if result < 0:
        raise NotHereError(f"{what}: {os.strerror(ctypes.get_errno())}")


# ---- limits ---------------------------------------------------------------------------------------------------------


def rlimit(name: str, value: int) -> None:
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def address_space(more: int) -> None:
    """Permit so many bytes more than what is mapped now."""
    rlimit("AS", int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE + more)


def descriptors(free: int) -> None:
    """Leave so many descriptors free."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    for _ in range(highest - len(os.listdir("/proc/self/fd"))):
        os.open("/dev/null", os.O_RDONLY)
    rlimit("NOFILE", os.open("/dev/null", os.O_RDONLY) + 1 + free)


PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 4, 8, 22, 38, 41
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 1 << 18, 2


def another_user() -> None:
    """Become an ordinary user, who may yet read the interpreter where it lies in somebody's home."""
    if os.geteuid() != 0:
        return
    permitted(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    kept = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH
    head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    permitted(libc.capset(head, data), "capset")
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        permitted(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "ambient capabilities")
    permitted(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")


NUMBERS = {"memfd_create": (319, 279), "futex_waitv": (449, 449), "pidfd_open": (434, 434), "madvise": (28, 233)}


def without(call: str, error: int, argument: tuple[int, int] | None = None) -> None:
    """Have the kernel refuse a system call, or those of them with this argument (which, value)."""
    number = NUMBERS[call][platform.machine() == "aarch64"]
    load, equal, give = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 0), (equal, 0, 3 if argument else 1, number)]
    if argument:
        program += [(load, 0, 0, 16 + 8 * argument[0]), (equal, 0, 1, argument[1])]
    program += [(give, 0, 0, 0x50000 | error), (give, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in program))
    filters = struct.pack("<H6xQ", len(program), ctypes.addressof(code))
    permitted(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    permitted(libc.prctl(PR_SET_SECCOMP, 2, filters, 0, 0), "seccomp")


def mounts() -> None:
    """Take a namespace of mounts of one's own."""
    permitted(libc.unshare(CLONE_NEWNS), "a namespace of mounts")
    permitted(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")


def mount(kind: str, place: str, options: str = "") -> None:
    permitted(libc.mount(kind.encode(), place.encode(), kind.encode(), 0, options.encode()), f"mounting {kind}")


def small_shm() -> None:
    mounts()
    mount("tmpfs", "/dev/shm", "size=64k")


def no_proc() -> None:
    mounts()
    permitted(libc.umount2(b"/proc", MNT_DETACH), "unmounting /proc")


def hidden_processes() -> None:
    mounts()
    mount("proc", "/proc", "hidepid=2")
    another_user()


def read_only_root() -> None:
    """Make every mount read-only, /tmp, /proc and /dev/shm too."""
    mounts()
    attributes = struct.pack("<4Q", 1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    permitted(libc.syscall(442, -100, b"/", 0x8000, attributes, len(attributes)), "a read-only root")


def user_namespace() -> None:
    user, group = os.geteuid(), os.getegid()
    permitted(libc.unshare(CLONE_NEWUSER), "a user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def process_namespace() -> None:
    """Go on as the first process of a new pid namespace, with a /proc of its own."""
    mounts()
    permitted(libc.unshare(CLONE_NEWPID), "a pid namespace")
    if inside := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) & 0xFF)
    mount("proc", "/proc")


def cgroup(path: str) -> None:
    Path(path, "cgroup.procs").write_text(str(os.getpid()))


def no_overcommit() -> None:
    """Show a kernel that counts its promises (vm.overcommit_memory=2), and has promised all but 24 MiB.

    The real setting is the whole machine's, where others work. So this process sees other files in the place of two of
    /proc; what the kernel itself says then is the limit called "populate".
    """
    told = {"CommitLimit:": 9_000_000, "Committed_AS:": 9_000_000 - 24 * 1024}
    lines = [line.split()[0] for line in Path("/proc/meminfo").read_text().splitlines()]
    values = dict(zip(lines, Path("/proc/meminfo").read_text().splitlines(), strict=True))
    values |= {key: f"{key} {value} kB" for key, value in told.items()}
    mounts()
    mount("tmpfs", "/dev/shm", "size=1m")
    for place, text in (("meminfo", "\n".join(values.values())), ("sys/vm/overcommit_memory", "2")):
        file = Path("/dev/shm") / Path(place).name
        file.write_text(text + "\n")
        bound = libc.mount(str(file).encode(), f"/proc/{place}".encode(), None, MS_BIND, None)
        permitted(bound, f"a file in the place of /proc/{place}")


MADV_POPULATE_WRITE = 23
LIMITS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "shm": small_shm,
    "budget": lambda: os.environ.update(NDSHARE_BUDGET="48 MiB"),
    "cgroup": lambda: cgroup(os.environ["LIMITS_CGROUP"]),
    "fsize 0": lambda: rlimit("FSIZE", 0),
    "fsize": lambda: rlimit("FSIZE", 100 * MIB),
    "as": lambda: address_space(700 * MIB),
    "as small": lambda: address_space(150 * MIB),
    "nofile": lambda: descriptors(12),
    "nofile small": lambda: descriptors(2),
    "nproc": lambda: rlimit("NPROC", 1),  # of another user: root is free of it
    "memlock": lambda: rlimit("MEMLOCK", 0),
    "overcommit": no_overcommit,
    "populate": lambda: without("madvise", errno.EFAULT, (2, MADV_POPULATE_WRITE)),
    "thp": lambda: permitted(libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "no 2-MiB pages"),
    "no proc": no_proc,
    "hidepid": lambda: None,
    "user namespace": user_namespace,
    "pid namespace": process_namespace,
    "read-only": read_only_root,
    **{
        f"{call} {name}": functools.partial(without, call, getattr(errno, name))
        for call in NUMBERS
        for name in ("ENOSYS", "EPERM")
    },
}
# Under these the process is another user's; so is a peer, which is started first, and whose array it attaches to.
OF_ANOTHER_USER = {"nproc": another_user, "hidepid": hidden_processes}


# ---- actions --------------------------------------------------------------------------------------------------------

nds: Any = None
kept: dict[str, Any] = {"pieces": []}


def add_one(array: np.ndarray[Any, Any]) -> None:
    """Work as a child does."""
    array += 1


def bring_in() -> None:
    global nds  # noqa: PLW0603  (importing it is the first action)
    import ndshare

    nds = ndshare


def create() -> None:
    """Make the session's arena, and one of one's own."""
    assert nds.ones(1000).sum() == 1000
    arena = nds.Arena("16 MiB")
    assert nds.ones(1000, arena=arena).sum() == 1000


def attach() -> None:
    assert nds.ref(kept["reference"]).open().sum() == 1000


def allocate() -> None:
    """Take 128 MiB piece by piece; what was had before the error is kept."""
    for _ in range(8):
        kept["pieces"].append(nds.empty(16 * MIB, np.uint8))


def write() -> None:
    for number, piece in enumerate(kept["pieces"]):
        piece.fill(number + 1)
    small = nds.zeros(1000, np.uint8)
    small += 1
    assert all((piece[::4096] == number + 1).all() for number, piece in enumerate(kept["pieces"]))


def in_a_child(method: str) -> None:
    """Have a child change an array; its own error is ours."""
    array = nds.zeros(1000, np.int64)
    mine, theirs = os.pipe()
    stderr = os.dup(2)
    os.dup2(theirs, 2)
    try:
        child = mp.get_context(method).Process(target=add_one, args=(array,))
        child.start()
    finally:
        os.dup2(stderr, 2)
        for file in (theirs, stderr):
            os.close(file)
    child.join(SECONDS)
    said = os.read(mine, 1 << 16).decode() if child.exitcode else ""
    os.close(mine)
    if child.exitcode == 1 and said:
        raise ChildError(said.strip().splitlines()[-1])
    assert child.exitcode == 0, f"the child ended with {child.exitcode}"
    assert (array == 1).all()


class ChildError(Exception):
    """What a child ended with: its last line, which names the type."""


def lock() -> None:
    mine = nds.Lock()
    with mine:
        assert not mine.acquire(timeout=0.02)
    array = nds.zeros(10)
    with nds.locked(array, timeout=1):
        array += 1
    assert array.sum() == 10


def ring() -> None:
    frames = nds.Ring(1000, np.uint8, slots=4)
    reader = frames.reader()
    try:
        reader.get(timeout=0.02)
    except nds.Empty:
        pass
    else:
        raise AssertionError("a frame that nobody wrote")
    poll = select.poll()
    poll.register(reader.fileno(), select.POLLIN)
    assert not poll.poll(10)
    frames.put(np.full(1000, 7, np.uint8))
    assert poll.poll(1000 * SECONDS)
    assert (reader.get(timeout=SECONDS) == 7).all()


def cache() -> None:
    values = nds.Cache("4 MiB", load=lambda key: np.full(1000, key))
    assert values[3].sum() == 3000
    values["x"] = np.arange(10)
    assert values["x"].sum() == 45


ACTIONS: dict[str, Callable[[], None]] = {
    "import": bring_in,
    "create": create,
    "attach": attach,
    "allocate": allocate,
    "write": write,
    "fork": lambda: in_a_child("fork"),
    "spawn": lambda: in_a_child("spawn"),
    "lock": lock,
    "ring": ring,
    "cache": cache,
}


def outcome(action: Callable[[], None]) -> dict[str, Any]:
    """Do it; say "ok", or the exception with whether it is one of ours."""
    try:
        action()
    except ChildError as error:
        name, _, text = str(error).partition(": ")
        return {"type": name.rsplit(".", 1)[-1], "text": text, "ours": name.startswith("ndshare.")}
    except Exception as error:
        ours = nds is not None and isinstance(error, nds.Error)
        return {"type": type(error).__name__, "text": str(error), "ours": ours}
    return {"type": "ok"}


PEER = "import ndshare as nds; x = nds.ones(1000); print(nds.ref(x), flush=True); input()"


def peer() -> subprocess.Popen[str]:
    """Start another process of this user, and attach to its array later."""
    other = subprocess.Popen([sys.executable, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout
    kept["reference"] = other.stdout.readline().strip()
    return other


def main() -> None:
    """Go under the limit, and do everything."""
    limit, kept["reference"] = sys.argv[1:]
    others: list[subprocess.Popen[str]] = []
    try:
        if limit in OF_ANOTHER_USER:
            OF_ANOTHER_USER[limit]()
            others = [peer()]
        LIMITS[limit]()
    except (NotHereError, PermissionError) as error:
        print(json.dumps({"skip": str(error)}))
    else:
        for name, action in ACTIONS.items():
            print(json.dumps({"action": name, **outcome(action)}), flush=True)
    for other in others:
        other.communicate("\n")


if __name__ == "__main__":
    main()
