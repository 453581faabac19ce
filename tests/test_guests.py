"""A forked child shares what its parent had, whatever stood in the way; where it can't take part it says so.

Such a child used to get private copies, or zeros, and nobody was told: what it wrote was lost, and it ended with 0.
Each test below takes one thing away at the fork. The child either has a place, or is a guest: it reads what is there,
writes what its parent sees, warns on stderr with the reason, and gets AttachError with that reason from every call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import HANG, ROUNDS, Done, environment, run

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to take this away")

ROOM = """
# What is freed below something that stays is not given back: a child works in it that gets no more.
freed = [bytes(50_000) for _ in range(40)]
stays = bytes(50_000)
del freed
"""

# A program takes something away, then calls fork(); the child ends with 0 for a member and with 3 for a guest.
COMMON = (
    """
import ctypes, gc, os, resource, signal, sys, threading, time, warnings
from multiprocessing.reduction import ForkingPickler
import numpy as np
import ndshare as nds

table = nds.full(100_000, 7.0)
copied = nds.full(300, 1, np.uint8)
"""
    + ROOM
    + """

def child():
    if not (table == 7).all() or not (copied == 1).all():
        return 1
    table[:] = 5
    copied[0] = 9
    try:
        mine = nds.ones(1000)
    except nds.AttachError as error:
        said = str(error)
        for call in (nds.stats, nds.Lock, nds.reclaim, lambda: ForkingPickler.dumps(table)):
            try:
                call()
            except nds.AttachError as again:
                if str(again) != said:
                    return 2
            else:
                return 4
        os.write(1, f"reason: {said}\\n".encode())
        return 3
    return 0 if mine.sum() == 1000 else 6

def fork():
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = child()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert (table == 5).all() and copied[0] == 9, "what the child wrote is lost"
    table[:], copied[0] = 7, 1
    os.write(1, {0: b"member\\n", 3: b"guest\\n"}.get(code, f"wrong {code}\\n".encode()))

def fill():
    try:
        while True: os.open("/dev/null", os.O_RDONLY)
    except OSError: pass
"""
)


def outcome(source: str, *args: str, **options: str) -> tuple[set[str], Done]:
    """Run a program that forks, and return which kinds of children it had. The guests were loud."""
    done = run(COMMON + "\n" + source, *args, env=environment(**options))
    lines = done.out.splitlines()
    assert done.code == 0, done
    kinds = {line for line in lines if not line.startswith("reason: ")}
    assert kinds, done
    assert kinds <= {"member", "guest"}, done
    reasons = {line.removeprefix("reason: ") for line in lines if line.startswith("reason: ")}
    assert all(reason in done.err for reason in reasons), done
    assert done.err.count("RuntimeWarning") == lines.count("guest"), done
    return kinds, done


def test_no_descriptor_is_free() -> None:
    """At the limit of descriptors nothing can be opened; a child had no sign of life."""
    kinds, done = outcome("""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
fill()
for _ in range(3): fork()
""")
    assert kinds == {"member"}
    assert not done.err


def test_no_descriptor_is_free_and_two_threads_go_on_waiting_for_children() -> None:
    """The helper that opens the file is no child that anybody's wait could see."""
    kinds, _ = outcome("""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
fill()
signal.signal(signal.SIGCHLD, lambda *_: os.write(1, b"wrong: a signal of a child that is not the user's\\n"))
nds.reclaim()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
for _ in range(3): fork()
try: os.waitpid(-1, os.WNOHANG)
except ChildProcessError: pass
else: os.write(1, b"wrong: a child is left\\n")
""")
    assert kinds == {"member"}


def test_descriptors_closed() -> None:
    """A daemon closes everything. The privileged find the file through their mapping; others' children are told."""
    kinds, done = outcome("""
os.closerange(3, 2000)
for _ in range(3): fork()
""")
    assert kinds == ({"member"} if os.geteuid() == 0 else {"guest"}), done


UNPRIVILEGED = """
import ctypes
# Without CAP_SYS_ADMIN and CAP_CHECKPOINT_RESTORE, and without looking into others: as most users are.
libc = ctypes.CDLL(None, use_errno=True)
version_and_pid, no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capset(version_and_pid, no_capabilities) == 0
"""


def test_descriptors_closed_by_an_ordinary_user() -> None:
    kinds, done = outcome(
        UNPRIVILEGED
        + """
os.closerange(3, 2000)
for _ in range(3): fork()
"""
    )
    assert kinds == {"guest"}
    assert "was closed by this program" in done.err


@ROOT_ONLY
def test_after_a_chroot_without_proc(tmp_path: Path) -> None:
    """/proc was opened beforehand."""
    kinds, done = outcome("os.chroot(sys.argv[1]); os.chdir('/')\nfor _ in range(3): fork()", str(tmp_path))
    assert kinds == {"member"}, done


@ROOT_ONLY
def test_after_a_chroot_with_descriptors_closed(tmp_path: Path) -> None:
    kinds, done = outcome(
        "os.chroot(sys.argv[1]); os.chdir('/'); os.closerange(3, 2000)\nfor _ in range(3): fork()", str(tmp_path)
    )
    assert kinds == {"guest"}, done


@ROOT_ONLY
def test_no_proc_is_mounted() -> None:
    kinds, done = outcome("""
import subprocess
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MNT_DETACH, MS_REC, MS_PRIVATE = 0x20000, 2, 0x4000, 1 << 18
assert libc.unshare(CLONE_NEWNS) == 0
assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
assert libc.umount2(b"/proc", MNT_DETACH) == 0
assert not os.path.exists("/proc/self")
for _ in range(3): fork()
""")
    assert kinds == {"member"}, done


@ROOT_ONLY
def test_after_a_change_of_user() -> None:
    """The file is root's, and the child of the former root may not open it. It is told who might."""
    kinds, done = outcome("os.setgid(65534); os.setuid(65534)\nfor _ in range(2): fork()")
    assert kinds == {"guest"}
    assert "belongs to uid 0, and this process is uid 65534 now" in done.err


@ROOT_ONLY
def test_a_child_that_changes_its_user_keeps_its_place() -> None:
    kinds, _ = outcome("""
inner = child
def child():
    os.setgid(65534); os.setuid(65534)
    return inner()
for _ in range(2): fork()
""")
    assert kinds == {"member"}


def test_no_address_space_is_left() -> None:
    """A page for the sign of life is all that is needed, and then nothing at all."""
    kinds, done = outcome("""
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used, used))
for _ in range(3): fork()
""")
    assert kinds == {"guest"}, done
    assert "RLIMIT_AS" in done.err


@pytest.fixture
def tight_group() -> Iterator[Path]:
    base = Path("/sys/fs/cgroup/memory")
    group = base / f"ndshare-guests-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    group.rmdir()


def test_a_cgroup_at_its_limit(tight_group: Path) -> None:
    """A private copy would have ended in the OOM killer; a place takes no memory of the arena's."""
    kinds, _ = outcome(
        """
group = sys.argv[1]
big = nds.ones(48 << 20, np.uint8)
open(group + "/memory.limit_in_bytes", "w").write(str(96 << 20))
open(group + "/cgroup.procs", "w").write(str(os.getpid()))
for _ in range(2): fork()
open(os.path.dirname(group) + "/cgroup.procs", "w").write(str(os.getpid()))
""",
        str(tight_group),
    )
    assert kinds == {"member"}


def test_a_raw_clone_is_told_at_its_first_call() -> None:
    """Nobody sees it made, so nobody can warn."""
    done = run(
        COMMON
        + """
libc = ctypes.CDLL(None)
SYS_fork_like = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
pid = libc.syscall(SYS_fork_like, signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    code = 99
    try: code = child()
    finally: os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, float(table[0]))
"""
    )
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "3 5.0", done
    assert "raw clone" in done.out


def test_a_raw_clone_that_inherits_no_arena_is_a_process_like_any_other() -> None:
    source = """
    import ctypes, os, signal
    import ndshare as nds
    libc = ctypes.CDLL(None)
    pid = libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        total = 99
        try:
            total = int(nds.ones(3).sum())
        finally:
            os._exit(total)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), nds.ones(3).sum())
    """
    # It has a parent, so it looks for the session at its first need, which is after the clone.
    assert run(source, env=environment(NDSHARE_SESSION="nds1-0123456789abcdef-1-3")).clean() == "3 3.0\n"


# ---- what guests have stays -----------------------------------------------------------------------------------------

LENDING = (
    UNPRIVILEGED
    + """
def blocks(): return nds.stats()["blocks"]

os.closerange(3, 2000)
here, there = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    warnings.simplefilter("ignore")
    os.read(here[0], 1)                       # until the parent has dropped it and used the memory again
    os._exit(0 if (table == 7).all() and (copied == 1).all() else 1)
"""
)


def test_what_a_guest_has_outlives_its_parents_references() -> None:
    """The parent's drop would hand the bytes to the next array, under the guest's eyes."""
    done = run(
        COMMON
        + LENDING
        + """
del table, copied
gc.collect()
others = [nds.zeros(100_000) for _ in range(20)] + [nds.zeros(300, np.uint8) for _ in range(200)]
os.write(here[1], b".")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert (done.code, done.out.split()) == (0, ["0"]), done


def test_what_a_guest_had_comes_back_when_it_is_gone() -> None:
    """Lending must not leak: the parent has a descriptor here, so it can tell when the guests have ended."""
    done = run(
        COMMON
        + """
def blocks(): return nds.stats()["blocks"]
limits = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
here = os.pipe()
kept = nds.ones(50)
base = blocks()
resource.setrlimit(resource.RLIMIT_AS, (used, limits[1]))
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os.close(here[1])
        os.read(here[0], 1)
        os._exit(0 if (table == 7).all() else 1)
    pids.append(pid)
resource.setrlimit(resource.RLIMIT_AS, limits)
del table, copied
gc.collect()
assert blocks() == base, blocks()
nds.zeros(100_000)[:] = 3
kept += 1
os.close(here[1])
codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}
print(codes, blocks() - base, float(kept.sum()))
"""
    )
    assert done.code == 0, done
    assert done.out.strip() == "{0} -2 100.0"
    assert done.err.count("RuntimeWarning") == 3


ORPHAN = (
    """
import os, sys, time
import numpy as np, ndshare as nds
"""
    + ROOM
    + """
peer, go, told = nds.zeros(1), os.pipe(), os.pipe()
parent = os.fork()
if parent == 0:
    table = nds.full(100_000, 7.0)
    import resource
    used = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
    if os.fork() == 0:
        if os.fork() == 0:                     # a guest's child is a guest
            os.close(told[0])
            os.write(told[1], b"r")
            os.read(go[0], 1)
            os.write(told[1], b"y" if (table == 7).all() else b"n")
        os._exit(0)
    os.wait()
    if sys.argv[1] == "exit":
        del table
        sys.exit(0)
    os.kill(os.getpid(), 9)
os.close(told[1])
assert os.read(told[0], 1) == b"r"
os.waitpid(parent, 0)
living = [p["alive"] for p in nds.stats()["participants"]]
others = [nds.zeros(100_000) for _ in range(20)]
before = nds.stats()["blocks"]
os.write(go[1], b".")
answer = os.read(told[0], 1)
while os.read(told[0], 1): pass               # until the guest is gone
deadline = time.monotonic() + 30
while nds.stats()["blocks"] == before and time.monotonic() < deadline: time.sleep(0.01)
print(sum(living), answer.decode(), before - nds.stats()["blocks"], len(nds.stats()["participants"]))
"""
)


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_guest_outlives_its_parent(end: str) -> None:
    """A dead parent is dead at once, in the statistics as well. What its guests read stays until they are gone."""
    done = run(ORPHAN, end)
    assert (done.code, done.out.split()) == (0, ["1", "y", "1", "1"]), done


def test_a_locks_dead_holder_is_seen_although_its_guest_lives() -> None:
    source = """
import os, resource, sys
import ndshare as nds
lock, go, told = nds.Lock(), os.pipe(), os.pipe()
parent = os.fork()
if parent == 0:
    lock.acquire()
    used = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
    if os.fork() == 0:
        os.write(told[1], b"r")
        os.read(go[0], 1)
        os._exit(0)
    os.kill(os.getpid(), 9)
os.read(told[0], 1)
os.waitpid(parent, 0)
try:
    lock.acquire(timeout=30)
    print("taken")
except nds.OwnerDied:
    print("died")
os.write(go[1], b".")
"""
    done = run(source)
    assert (done.code, done.out.split()) == (0, ["died"]), done


# ---- the warning ----------------------------------------------------------------------------------------------------

SHUT = """
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used, used))
"""


def test_the_warning_names_the_users_line_and_every_generation_warns() -> None:
    done = run(
        COMMON
        + SHUT
        + """
pid = os.fork()  # here
if pid == 0:
    if os.fork() == 0: os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
"""
    )
    assert done.code == 0, done
    assert done.err.count("RuntimeWarning: [process") == 2
    assert "os.fork()  # here" in done.err


def test_warnings_that_are_errors_are_seen_and_raise_nothing() -> None:
    done = run(COMMON + SHUT + "fork()", flags=("-W", "error::RuntimeWarning"))
    assert done.code == 0, done
    assert "guest" in done.out.split(), done
    assert "RuntimeWarning" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("how", ["os.close(2)", "sys.stderr.close()", "sys.stderr = None"])
def test_a_closed_stderr_is_no_harm(how: str) -> None:
    done = run(COMMON + SHUT + how + "\nfork()")
    assert done.code == 0, done
    assert "guest" in done.out.split(), done


def test_the_programs_of_a_guest_join_by_themselves() -> None:
    """What stood in the way of the fork need not stand in the way of a program."""
    source = (
        COMMON
        + """
import subprocess
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
ref = str(nds.ref(table))
resource.setrlimit(resource.RLIMIT_AS, (used, hard))
pid = os.fork()
if pid == 0:
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    code = "import sys, ndshare as nds; nds.ref(sys.argv[1]).open()[:] = 8; nds.ones(3)"
    os._exit(subprocess.run([sys.executable, "-c", code, ref]).returncode)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), float(table[5]))
"""
    )
    done = run(source)
    assert (done.code, done.out.split()) == (0, ["0", "8.0"]), done


# ---- sweeps that can't be done --------------------------------------------------------------------------------------


def test_allocations_go_on_when_a_sweep_cannot_be_done() -> None:
    """Every allocation raised AttachError after a death, until files were closed."""
    done = run(
        UNPRIVILEGED
        + """
import os, resource, signal
import ndshare as nds
told = os.pipe()
pid = os.fork()
if pid == 0:
    x = nds.ones(10)
    os.write(told[1], b".")
    signal.pause()
os.read(told[0], 1)
os.closerange(3, 2000)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
x = [nds.zeros(1 << 18) for _ in range(20)]
stats = nds.stats()
print(len(x), [p["alive"] for p in stats["participants"]])
"""
    )
    # The number of the dead is nobody's, so it is known to be dead, also without a descriptor.
    assert (done.code, done.out.strip()) == (0, "20 [True, False]"), done


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.skipif(ROUNDS == 1, reason="10 seconds of waiting: make crash runs it")
def test_who_cannot_tell_whether_an_owner_lives_says_so() -> None:
    """It waited for ever and named no reason. Here the owner's number is taken: it has replaced itself."""
    done = run(
        UNPRIVILEGED
        + """
import os, resource, signal, sys, time
import ndshare as nds
lock, told = nds.Lock(), os.pipe()
pid = os.fork()
if pid == 0:
    lock.acquire()
    os.write(told[1], b".")
    os.execv("/bin/sleep", ["sleep", "100"])
os.read(told[0], 1)
os.closerange(3, 2000)
while b"sleep" not in open(f"/proc/{pid}/cmdline", "rb").read(): time.sleep(0.01)
try:
    lock.acquire(timeout=0.3)
except nds.Timeout as error: print("cannot tell" in str(error), "closed by this program" in str(error))
start = time.monotonic()
try: lock.acquire()
except nds.AttachError as error: print(str(pid) in str(error), time.monotonic() - start < 60)
os.kill(pid, signal.SIGKILL)
"""
    )
    assert done.code == 0, done
    assert done.out.split() in (["True"] * 4, ["True"] * 2), done


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.skipif(ROUNDS == 1, reason="12 seconds of waiting: make crash runs it")
def test_a_writer_that_cannot_tell_whether_a_reader_lives_goes_on_waking_it() -> None:
    """Two daemons had closed everything. After ten seconds the writer took the reader for dead: the picture froze."""
    done = run(
        UNPRIVILEGED
        + """
import os, select, signal, time
import ndshare as nds
ring = nds.Ring(2, "i8", slots=8, when_full="drop_oldest")
reader = ring.reader(latest=True)
pid = os.fork()
if pid == 0:
    signal.alarm(200)
    os.closerange(3, 2000)
    while True:
        ring.put([1, 1])
        time.sleep(0.05)
os.closerange(3, 2000)
poll = select.poll()
poll.register(reader, select.POLLIN)
end = time.monotonic() + 12
while time.monotonic() < end and poll.poll(60_000):
    try: reader.get(0)
    except nds.Empty: pass
print("heard" if poll.poll(60_000) else "silence")
os.kill(pid, signal.SIGKILL)
"""
    )
    assert done.clean() == "heard\n"


STRANGER = """
import os, pickle, sys
import ndshare as nds
os.setgid(65534); os.setuid(65534)
arena = nds.Arena("8 MiB")
x = nds.ones(3, arena=arena)
print(arena.__reduce__()[1][0], arena.id, nds.ref(x), flush=True)
sys.stdin.readline()
"""


@ROOT_ONLY
def test_a_locator_of_another_users_is_refused_by_name() -> None:
    """Root followed it (sudo -E, a cron job) and mapped what that user had put there."""
    theirs = subprocess.Popen(
        [sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert theirs.stdout
        locator, session, ref = theirs.stdout.readline().split()
        source = "import ndshare as nds; nds.zeros(3); print(nds.stats()['id'])"
        mine = run(source, env=environment(NDSHARE_SESSION=locator))
        assert (mine.code, len(mine.out.split())) == (0, 1), mine
        assert mine.out.strip() != session
        assert "NDSHARE_SESSION is not followed" in mine.err
        assert "belongs to uid 65534, and this process is uid 0" in mine.err
        # Planted: it says that somebody else has it.
        planted = locator.rsplit("-", 2)[0] + "-1-0"
        mine = run(source, env=environment(NDSHARE_SESSION=planted))
        assert (mine.code, mine.out.strip() != session) == (0, True), mine
        opened = run("import sys, ndshare as nds; nds.ref(sys.argv[1]).open()", ref)
        assert "AttachError" in opened.err
        assert "belongs to uid 65534" in opened.err
        assert "NDSHARE_SESSION is not followed" in run(source, env=environment(NDSHARE_SESSION=locator)).err
    finally:
        theirs.communicate("\n", timeout=HANG)


@ROOT_ONLY
def test_where_warnings_are_errors_another_users_locator_is_one_at_each_use() -> None:
    """Nothing is joined or made behind the back of who catches it, and the search can be tried again."""
    source = """
    import os, warnings
    import ndshare as nds
    warnings.simplefilter("error")
    for _ in range(2):
        try:
            nds.zeros(3)
        except RuntimeWarning as warning:
            print("NDSHARE_SESSION is not followed: arena" in str(warning), os.environ["NDSHARE_SESSION"].count("-"))
    warnings.simplefilter("ignore")
    print(nds.zeros(3).sum(), os.environ["NDSHARE_SESSION"].split("-")[2] == str(os.getpid()))
    """
    theirs = subprocess.Popen(
        [sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert theirs.stdout
        locator = theirs.stdout.readline().split()[0]
        out = run(source, env=environment(NDSHARE_SESSION=locator)).clean()
        assert out.split() == ["True", "3", "True", "3", "0.0", "True"]
    finally:
        theirs.communicate("\n", timeout=HANG)
