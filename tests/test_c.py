"""Programs in C and C++ share arrays and rings with Python, by the header and the library that the package ships.

They are the programs of ``examples/c``, that of ``docs/c.md``, and a few that stand here. Each is compiled once, as C11
or C++17, with all warnings as errors, against the library as cargo builds it for tests.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment, script, scripts, wait_until
from test_strangers import runtime as runtime  # noqa: PLC0414  (a fixture)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "c"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", f"-I{EXAMPLES}")
STANDARDS = {"cc": "-std=c11", "c++": "-std=c++17"}
BUILD = ("cargo", "build", "--quiet", "--package", "ndshare-c", "--features", "killpoints")
WRITER_DIED = 3  # how examples/c/reader.c ends then

pytestmark = [
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo to build the C library"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc, a C compiler"),
]
needs_cplusplus = pytest.mark.skipif(shutil.which("c++") is None, reason="needs c++, a C++ compiler")


@functools.cache
def library() -> Path:
    """Return the folder of the library, built now if it is not; what it stands on was built for the Rust tests."""
    subprocess.run(BUILD, cwd=ROOT, check=True, timeout=10 * HANG)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"


def linked() -> tuple[str, ...]:
    return f"-I{nds.get_include()}", f"-L{library()}", f"-Wl,-rpath,{library()}", "-lndshare"


def compiled(source: Path, compiler: str = "cc", libraries: Sequence[str] | None = None) -> str:
    """Return the program of a source; any warning is an error."""
    target = scripts() / f"{source.stem}-{compiler}"
    language = ("-x", "c++") if compiler == "c++" else ()
    flags = (*STRICT, STANDARDS[compiler], *language, str(source), *(["-x", "none"] if language else []))
    command = [compiler, *flags, "-o", str(target), *(linked() if libraries is None else libraries)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return str(target)


@functools.cache
def program(name: str, compiler: str = "cc") -> str:
    """Return an example, compiled now if it is not."""
    return compiled(EXAMPLES / name, compiler)


def of_text(name: str, text: str) -> str:
    """Return the program of a text."""
    source = scripts() / f"{name}.c"
    source.write_text(text)
    return compiled(source)


def output(*command: str, env: dict[str, str] | None = None) -> str:
    """Return what a program printed, having checked that it ended well."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program, which is gone after the context."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def has_reader(ring: nds.Ring) -> bool:
    return len(ring.stats()["readers"]) == 1


# What is shipped


@pytest.mark.parametrize("compiler", ["cc", pytest.param("c++", marks=needs_cplusplus)])
@pytest.mark.parametrize("name", ["driver.c", "reader.c", "array.c"])
def test_the_examples_are_both_c_and_cplusplus(name: str, compiler: str) -> None:
    assert Path(program(name, compiler)).exists()


def test_a_program_needs_only_the_static_library() -> None:
    static = (f"-I{nds.get_include()}", str(library() / "libndshare.a"), "-lm", "-lpthread", "-ldl")
    array = nds.array(np.arange(3.0))
    add = compiled(EXAMPLES / "array.c", libraries=static)
    assert output(add, "add", str(nds.ref(array))) == "10 11 12"


PAGE = (ROOT / "docs" / "c.md").read_text()
BLOCK = re.search(r"```c\n(.*?)```\n", PAGE, re.DOTALL)


@pytest.mark.parametrize("how", ["get_include", "pkg-config"])
def test_the_program_of_the_page_runs_with_what_the_package_ships(how: str) -> None:
    try:
        folder = nds.get_library()
    except FileNotFoundError:
        pytest.skip("needs libndshare.so in the package: make, or crates/ndshare-c/build_backend.py, puts it there")
    flags = [f"-I{nds.get_include()}", f"-L{folder}", f"-Wl,-rpath,{folder}", "-lndshare"]
    if how == "pkg-config":
        if shutil.which("pkg-config") is None:
            pytest.skip("needs pkg-config")
        env = {**os.environ, "PKG_CONFIG_PATH": f"{folder}/pkgconfig"}
        flags = output("pkg-config", "--cflags", "--libs", "ndshare", env=env).split()
        assert output("pkg-config", "--modversion", "ndshare", env=env) == nds.__version__
    assert BLOCK is not None
    source = scripts() / "page.c"
    source.write_text(BLOCK[1])
    ring = nds.Ring((4, 6), np.uint16, slots=16)
    with ring.reader() as frames:
        assert output(compiled(source, libraries=flags), str(nds.ref(ring))) == "published 10 frames"
        assert [(frame.seq, int(frame.sum())) for frame in frames] == [(n, 24 * n) for n in range(10)]


def test_the_files_for_pkg_config_have_the_packages_version() -> None:
    text = (ROOT / "python" / "ndshare" / "lib" / "pkgconfig" / "ndshare.pc").read_text()
    assert f"\nVersion: {nds.__version__}\n" in text


IN_ONE_PROCESS = """
import ctypes, sys
import ndshare as nds
c = ctypes.CDLL(sys.argv[1])
c.nds_error.restype = ctypes.c_char_p
a, handle, shape = nds.zeros(3), ctypes.c_void_p(), (ctypes.c_size_t * 1)(1 << 20)
assert c.nds_array_open(str(nds.ref(a)).encode(), ctypes.c_double(1), ctypes.byref(handle)) == 0, c.nds_error()
used = nds.stats()["bytes"]
assert c.nds_array_make(b"uint8", ctypes.c_size_t(1), shape, ctypes.byref(ctypes.c_void_p())) == 0, c.nds_error()
assert nds.stats()["bytes"] - used >= 1 << 20, "it is in the same session"
assert len(nds.stats()["participants"]) == 2, "each of the two is one for itself"
del a
print(c.nds_array_free(handle), c.nds_array_free(handle), c.nds_error().decode())
"""


def test_a_library_in_python_is_in_its_session() -> None:
    """As an extension of another package would be, which is linked against it."""
    first, second, text = output(
        sys.executable, str(script(IN_ONE_PROCESS)), str(library() / "libndshare.so"), env=environment()
    ).split(maxsplit=2)
    assert (first, second) == ("0", "14")
    assert text == "expected a nds_array that lives, got a handle that was freed before, or never was one"


# Arrays


def test_a_c_program_joins_a_python_session() -> None:
    x = nds.array(np.arange(8.0))
    assert output(program("array.c"), "add", str(nds.ref(x[::-2]))) == "17 15 13 11"
    assert x.tolist() == [0, 11, 2, 13, 4, 15, 6, 17]


def test_what_a_c_program_may_not_write_is_said() -> None:
    x = nds.zeros((2, 3), np.float32)
    done = subprocess.run([program("array.c"), "add", str(nds.ref(x))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "expected a writable row of float64, got 2 axes of <f4\n")


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    x = nds.zeros(3)
    reference = str(nds.ref(x))
    del x
    done = subprocess.run([program("array.c"), "add", reference], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "its last holder dropped it" in done.stderr
    done = subprocess.run([program("array.c"), "add", "nds1:"], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("expected")


ADD_ONE = """
import os, sys
import ndshare as nds
x = nds.ref(sys.argv[-1]).open()
assert (x.dtype, x.tolist()) == ("float64", [1, 2, 3, 4])
assert nds.stats()["id"] in os.environ["NDSHARE_SESSION"], "it is in the session of the program that started it"
x += 1
"""


def test_a_python_program_joins_a_c_session() -> None:
    child = str(script(ADD_ONE))
    assert output(program("array.c"), "run", sys.executable, child, env=environment()) == "2 3 4 5"
    assert output(program("array.c"), "run", program("array.c"), "add", env=environment()).splitlines() == [
        "11 12 13 14",
        "11 12 13 14",
    ]


# Rings

META = [("exposure", "<f8")]
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def test_python_reads_what_a_driver_in_c_fills_in_place() -> None:
    ring = nds.Ring((48, 64), np.uint16, slots=8, meta=META)
    with ring.reader() as frames, running(program("driver.c"), str(nds.ref(ring)), "100") as driver:
        seen = 0
        for frame in frames:
            assert (frame == frame.seq).all()
            assert frame.meta["exposure"] == 0.5 * frame.seq
            seen += 1
        assert (seen, driver.wait(HANG)) == (100, 0)


def test_a_c_reader_reads_what_python_writes() -> None:
    """Frames of the ring's own shape, of others, and of another dtype."""
    ring = nds.Ring((30, 40), np.uint16, slots=8)
    with running(program("reader.c"), str(nds.ref(ring)), stdout=subprocess.PIPE) as reader:
        assert wait_until(lambda: has_reader(ring))
        with ring:
            for n in range(3):
                ring.put(np.full((30, 40), n, np.uint16), timeout=HANG)
            with ring.write(shape=(2, 3), timeout=HANG) as frame:
                frame[:] = 7
            with ring.write(shape=5, dtype=np.float32, timeout=HANG) as frame:
                frame[:] = 7
        out, _ = reader.communicate(timeout=HANG)
    lines = ["0: 30 40 <u2 0", "1: 30 40 <u2 1200", "2: 30 40 <u2 2400", "3: 2 3 <u2 42", "4: <f4"]
    assert (out.splitlines(), reader.returncode) == (lines, 0)


RING_IN_C = """
#include "check.h"

int main(void)
{
    const size_t shape[] = {3, 5}, part[] = {2, 2};
    nds_ring_format format = {0}, told;
    format.dtype = "uint16";
    format.ndim = 2;
    format.shape = shape;
    format.meta = "[('id', '<u4')]";
    format.name = "camera";
    format.when_full = "drop_oldest";
    format.slots = 4;
    format.keep = 2;
    nds_ring *ring;
    nds_writer *writer;
    nds_writing *writing;
    nds_array_info info;
    check(nds_ring_make(&format, &ring));
    check(nds_ring_get_format(ring, &told));
    printf("%s %zu %zu %zu %s %s %s %zu %zu\\n", told.dtype, told.ndim, told.shape[0], told.shape[1], told.meta,
           told.name, told.when_full, told.slots, told.keep);
    check(nds_writer_make(ring, 1, &writer));
    check(nds_writer_begin_shaped(writer, "float32", 2, part, 1, &writing));
    check(nds_writing_get_info(writing, &info));
    for (size_t i = 0; i < info.size; i++)
        ((float *)info.data)[i] = (float)i;
    const uint32_t id = 7;
    uint64_t seq;
    check(nds_writing_publish(writing, &id, sizeof id, 1, &seq));
    printf("%d %s\\n", (int)seq, nds_ring_reference(ring));
    fflush(stdout);
    (void)getchar();
    check(nds_writer_close(writer, 1));
    check(nds_ring_free(ring));
    return 0;
}
"""


def test_python_opens_a_ring_of_c() -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(of_text("ring", RING_IN_C), **pipes) as maker:
        assert maker.stdout.readline() == "<u2 2 3 5 [('id', '<u4')] camera drop_oldest 4 2\n"
        seq, reference = maker.stdout.readline().split()
        ring = nds.ref(reference).open()
        assert seq == "0"
        assert repr(ring).startswith("<Ring 'camera' (3, 5) uint16 ")
        frames = ring.reader(start="oldest")
        frame = frames.get(timeout=HANG)
        assert (frame.tolist(), frame.dtype, int(frame.meta["id"])) == ([[0, 1], [2, 3]], "float32", 7)
        maker.communicate("\n", timeout=HANG)
        with pytest.raises(nds.Closed):
            frames.get(timeout=HANG)
        assert maker.returncode == 0


# Names

NAMES = """
#include "check.h"

#include <string.h>

// names publish NAME    publishes an array {1, 2, 3} and a ring, NAME and NAME-ring, and says so; after a line it takes
//                       the names back, and says whether they were there
// names attach NAME     attaches to both, adds 10 to each item, writes one frame of sevens, and says what it saw
int main(int argc, char **argv)
{
    nds_array *array;
    nds_array_info info;
    nds_ring *ring;
    nds_writer *writer;
    nds_writing *writing;
    char other[100];
    if (argc != 3)
        return 1;
    snprintf(other, sizeof other, "%s-ring", argv[2]);
    if (strcmp(argv[1], "publish") == 0) {
        const size_t shape[] = {3};
        bool were_there[2];
        nds_ring_format format = {0};
        format.dtype = "uint8";
        format.ndim = 1;
        format.shape = shape;
        format.slots = 2;
        check(nds_array_make("float64", 1, shape, &array));
        check(nds_array_get_info(array, &info));
        for (int i = 0; i < 3; i++)
            ((double *)info.data)[i] = i + 1;
        check(nds_ring_make(&format, &ring));
        check(nds_publish_array(argv[2], array, false, 10));
        check(nds_publish_ring(other, ring, false, 10));
        check(nds_array_free(array));
        check(nds_ring_free(ring));
        printf("published\\n");
        fflush(stdout);
        (void)getchar();
        check(nds_unpublish(argv[2], 10, &were_there[0]));
        check(nds_unpublish(other, 10, NULL));
        check(nds_unpublish(argv[2], 10, &were_there[1]));
        printf("%d %d\\n", were_there[0], were_there[1]);
        return 0;
    }
    check(nds_attach_array(argv[2], 10, &array));
    check(nds_array_get_info(array, &info));
    for (size_t i = 0; i < info.size; i++)
        ((double *)info.data)[i] += 10;
    check(nds_attach_ring(other, 10, &ring));
    check(nds_writer_make(ring, 10, &writer));
    check(nds_writer_begin(writer, 10, &writing));
    nds_array_info frame;
    check(nds_writing_get_info(writing, &frame));
    memset(frame.data, 7, frame.size);
    printf("%s %zu %s %zu\\n", info.dtype, info.size, frame.dtype, frame.size);
    check(nds_writing_publish(writing, NULL, 0, 10, NULL));
    check(nds_writer_close(writer, 10));
    return 0;
}
"""


@functools.cache
def names_program() -> str:
    return of_text("names", NAMES)


def test_python_finds_what_c_publishes(runtime: Path) -> None:
    with running(names_program(), "publish", "from-c", env=environment(), **PIPES) as publisher:
        assert publisher.stdout.readline() == "published\n"
        assert (runtime / "ndshare" / "name-from-c").exists()
        array, ring = nds.attach("from-c", timeout=HANG), nds.attach("from-c-ring", timeout=HANG)
        assert (array.tolist(), array.dtype, ring.stats()["written"]) == ([1, 2, 3], "float64", 0)
        assert publisher.communicate("\n", timeout=HANG)[0] == "1 0\n"
        assert nds.names() == {}
    array += 1
    assert array.tolist() == [2, 3, 4], "it outlives its publisher"


def test_c_finds_what_python_publishes(runtime: Path) -> None:
    array, ring = nds.array(np.arange(3.0)), nds.Ring(4, np.uint8, slots=2, keep=1)
    nds.publish("from-python-ring", ring)
    with running(names_program(), "attach", "from-python", env=environment(), stdout=subprocess.PIPE) as late:
        nds.publish("from-python", array)  # perhaps only now: it waits
        assert late.communicate(timeout=HANG)[0] == "<f8 3 |u1 4\n"
    assert array.tolist() == [10, 11, 12]
    assert ring.reader(start="oldest").get(timeout=HANG).tolist() == [7] * 4
    assert runtime.exists()


def test_a_c_publisher_that_is_killed_leaves_what_others_have_and_no_name(runtime: Path) -> None:
    with running(names_program(), "publish", "mortal", env=environment(), **PIPES) as publisher:
        assert publisher.stdout.readline() == "published\n"
        ring = nds.attach("mortal-ring", timeout=HANG)
        publisher.send_signal(signal.SIGKILL)
        publisher.wait(HANG)
    assert set(nds.names()) == {"mortal-ring"}, "what somebody has stays, and nobody has the array"
    assert nds.attach("mortal-ring", timeout=HANG).stats()["written"] == 0
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "env": environment(), **PIPES}
    with running(names_program(), "publish", "mortal", **pipes) as refused:
        assert 'expected "mortal-ring" to be free' in refused.communicate(timeout=HANG)[1]
    ring.close()
    assert runtime.exists()


VIEWER = """
#include "check.h"

#include <stdlib.h>
#include <string.h>

#define FAILS(code, call) do { if ((call) != (code)) { printf("%s\\n", #call); return 1; } } while (0)

// viewer NAME         reads the array NAME and the newest frame of NAME-ring, and is refused whatever would write
// viewer NAME write   writes to the array through its pointer
int main(int argc, char **argv)
{
    nds_array *array;
    nds_array_info info;
    nds_ring *ring;
    nds_writer *writer = NULL;
    nds_reader *reader;
    nds_frame *frame;
    nds_frame_info seen;
    char other[100];
    snprintf(other, sizeof other, "%s-ring", argv[1]);
    check(nds_attach_array_readonly(argv[1], 10, &array));
    check(nds_array_get_info(array, &info));
    const double *items = info.data;
    if (argc > 2)
        *(double *)info.data = 1;
    check(nds_attach_ring_readonly(other, 10, &ring));
    FAILS(NDS_READ_ONLY, nds_writer_make(ring, 1, &writer));
    FAILS(NDS_READ_ONLY, nds_ring_close(ring, 1));
    if (writer != NULL || strstr(nds_error(), "read only") == NULL)
        printf("%s\\n", nds_error());
    check(nds_reader_make(ring, true, NULL, "oldest", 10, &reader));
    check(nds_reader_get(reader, 10, &frame));
    check(nds_frame_get_info(frame, &seen));
    const unsigned char *bytes = seen.array.data;
    printf("%d %g %d\\n", info.readonly, items[1], bytes[1]);
    check(nds_frame_release(frame));
    check(nds_reader_close(reader));
    check(nds_ring_free(ring));
    check(nds_array_free(array));
    return 0;
}
"""


def test_a_viewer_in_c_reads_and_can_write_nothing(runtime: Path) -> None:
    array, ring = nds.array(np.arange(3.0)), nds.Ring(4, np.uint8, slots=2, keep=1)
    ring.put(np.arange(4, dtype=np.uint8))
    nds.publish("viewed", array)
    nds.publish("viewed-ring", ring)
    viewer = of_text("viewer", VIEWER)
    assert output(viewer, "viewed", env=environment()) == "1 1 1"
    with running(viewer, "viewed", "write", env=environment()) as vandal:
        assert vandal.wait(HANG) == -signal.SIGSEGV
    assert array.tolist() == [0, 1, 2]
    ring.put(np.zeros(4, np.uint8), timeout=HANG)
    assert runtime.exists()


SESSION = """
#include "check.h"

int main(void)
{
    check(nds_session_start());
    check(nds_session_start());
    return 0;
}
"""


def test_a_session_that_the_environment_means_otherwise_is_said(runtime: Path) -> None:
    """``NDSHARE_SESSION=site`` lacks the @ of a name; Python warns, and a program in C or Rust heard nothing."""
    program = of_text("session_of", SESSION)
    run = functools.partial(subprocess.run, [program], capture_output=True, text=True, timeout=HANG, check=False)
    done = run(env=environment(NDSHARE_SESSION="site"))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith('ndshare: NDSHARE_SESSION is not followed: expected "@name" for the session of a name')
    for told in (None, "", "@fine", "nds-of-another-machine"):
        assert run(env=environment(NDSHARE_SESSION=told)).stderr == "", told
    done = run(env=environment(NDSHARE_SESSION="@a/b"))
    assert done.returncode == 1
    assert "expected a name of 1 to 200 bytes without slashes" in done.stderr
    assert 'got "a/b" of 3 bytes, behind the @ in NDSHARE_SESSION' in done.stderr
    assert runtime.exists()


# Deaths


def ended_by_death(reader: nds.Reader) -> bool:
    """Return whether a death ends the frames that are left, each of which is whole."""
    try:
        for frame in reader:
            assert (frame == frame[0, 0]).all()
    except nds.WriterDied:
        return True
    return False


def test_a_driver_that_is_killed_is_told_and_the_next_one_goes_on() -> None:
    """At whatever instant: each frame that was read is whole, and a new driver writes to the same ring."""
    ring = nds.Ring((48, 64), np.uint16, slots=4)
    reader = ring.reader()
    for kill in range(20):
        with running(program("driver.c"), str(nds.ref(ring)), "1000000000") as driver:
            for _ in range(1 + kill):
                frame = reader.get(timeout=HANG)
                assert (frame == frame[0, 0]).all()
            time.sleep(kill / 10_000)  # not a wait: the instant of the death
            driver.send_signal(signal.SIGKILL)
            driver.wait(HANG)
            assert ended_by_death(reader)
        del frame


def test_a_c_reader_that_is_killed_holds_nobody_back() -> None:
    ring = nds.Ring((48, 64), np.uint16, slots=2)
    for kill in range(20):
        with running(program("reader.c"), str(nds.ref(ring)), stdout=subprocess.DEVNULL) as reader:
            assert wait_until(lambda: has_reader(ring))
            for n in range(kill):
                ring.put(np.full((48, 64), n, np.uint16), timeout=HANG)
            reader.send_signal(signal.SIGKILL)
            for n in range(8):
                ring.put(np.full((48, 64), n, np.uint16), timeout=HANG)
        assert wait_until(lambda: not any(r["alive"] for r in ring.stats()["readers"]))


WRITE_FOR_EVER = """
import sys
import numpy as np
import ndshare as nds
ring = nds.ref(sys.argv[1]).open()
with ring:
    while True:
        ring.put(np.ones((4, 6), np.uint16))
"""


def test_a_c_reader_is_told_that_python_died() -> None:
    ring = nds.Ring((4, 6), np.uint16, slots=4)
    for _ in range(3):
        reader = running(program("reader.c"), str(nds.ref(ring)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with reader as reading, running(sys.executable, str(script(WRITE_FOR_EVER)), str(nds.ref(ring))) as writing:
            before = ring.stats()["written"]
            assert wait_until(lambda: has_reader(ring))
            assert wait_until(lambda before=before: ring.stats()["written"] > before + 10)
            writing.send_signal(signal.SIGKILL)
            _, told = reading.communicate(timeout=HANG)
        assert (reading.returncode, bool(told)) == (WRITER_DIED, True)


READ_FOR_EVER = """
import sys
import ndshare as nds
for frame in nds.ref(sys.argv[1]).open().reader():
    pass
"""


def test_a_driver_goes_on_when_python_died() -> None:
    ring = nds.Ring((48, 64), np.uint16, slots=4)
    with running(sys.executable, str(script(READ_FOR_EVER)), str(nds.ref(ring))) as reading:
        assert wait_until(lambda: has_reader(ring))
        with running(program("driver.c"), str(nds.ref(ring)), "3000") as driver:
            assert wait_until(lambda: ring.stats()["written"] > 10)
            reading.send_signal(signal.SIGKILL)
            assert driver.wait(HANG) == 0
    assert ring.stats()["written"] == 3000


# Locks

LOCK_IN_C = """
#include "check.h"

// lock REFERENCE RECOVER: takes the lock, within a tenth of a second; prints how that went; holds it until it is told.
int main(int argc, char **argv)
{
    nds_array *array;
    nds_lock *lock = NULL;
    if (argc != 3)
        return 1;
    check(nds_array_open(argv[1], -1, &array));
    printf("%d\\n", (int)nds_arrays_lock(&array, 1, argv[2][0] == '1', 0.1, &lock));
    fflush(stdout);
    (void)getchar();
    if (lock) {
        printf("%d\\n", (int)nds_arrays_lock(&array, 1, true, -1, &lock));
        check(nds_unlock(lock, true));
    }
    check(nds_array_free(array));
    return 0;
}
"""
OK, TIMEOUT, OWNER_DIED, MISUSE = 0, 6, 8, 14


def test_a_lock_is_between_c_and_python_and_outlives_its_holder() -> None:
    array, c = nds.zeros(3), of_text("lock", LOCK_IN_C)
    reference = str(nds.ref(array))
    with running(c, reference, "0", **PIPES) as holder:
        assert int(holder.stdout.readline()) == OK
        with pytest.raises(nds.Timeout), nds.locked(array, timeout=0.05):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(HANG)
    with pytest.raises(nds.OwnerDied), nds.locked(array, timeout=HANG):
        pass
    with running(c, reference, "0", **PIPES) as told:
        assert told.communicate("\n", timeout=HANG)[0] == f"{OWNER_DIED}\n"
    with running(c, reference, "1", **PIPES) as mender:
        assert mender.communicate("\n", timeout=HANG)[0] == f"{OK}\n{MISUSE}\n", "one thread has it once"
    with nds.locked(array, timeout=HANG), running(c, reference, "1", **PIPES) as late:
        assert late.communicate("\n", timeout=HANG)[0] == f"{TIMEOUT}\n"


# Mistakes

MISTAKES = """
#include "check.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define FAILS(expected, call) do { \\
    const nds_code got = (call); \\
    if (got != (expected)) { \\
        printf("line %d: %s gave %d (%s)\\n", __LINE__, #call, (int)got, nds_error()); \\
        failures++; \\
    } else if (nds_error()[0] == '\\0') { \\
        printf("line %d: %s says nothing\\n", __LINE__, #call); \\
        failures++; \\
    } \\
} while (0)

int main(void)
{
    int failures = 0, elsewhere = 0;
    const size_t shape[] = {2, 3}, huge[] = {SIZE_MAX, SIZE_MAX};
    nds_array *array = NULL;
    nds_array_info info;
    FAILS(NDS_INVALID_VALUE, nds_array_make(NULL, 2, shape, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_make("complex65", 2, shape, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_make("\\xff", 2, shape, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_make("uint8", 2, NULL, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_make("uint8", SIZE_MAX, shape, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_make("uint8", 2, shape, NULL));
    FAILS(NDS_INVALID_VALUE, nds_array_open(NULL, 1, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_open("", 1, &array));
    FAILS(NDS_INVALID_VALUE, nds_session_join(NULL));
    if (nds_array_make("uint8", 2, huge, &array) == NDS_OK || array != NULL)
        failures++, printf("a huge array\\n");
    check(nds_array_make("uint8", 2, shape, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_open(nds_array_reference(array), NAN, &array));
    FAILS(NDS_INVALID_VALUE, nds_array_get_info(NULL, &info));
    FAILS(NDS_INVALID_VALUE, nds_array_get_info(array, NULL));
    FAILS(NDS_MISUSE, nds_array_get_info((nds_array *)&elsewhere, &info));
    FAILS(NDS_INVALID_TYPE, nds_ring_close((nds_ring *)array, 1));
    FAILS(NDS_INVALID_TYPE, nds_frame_release((nds_frame *)array));
    check(nds_array_get_info(array, &info));

    nds_lock *lock;
    nds_array *arrays[] = {array, NULL};
    FAILS(NDS_INVALID_VALUE, nds_arrays_lock(arrays, 2, false, 1, &lock));
    FAILS(NDS_INVALID_VALUE, nds_arrays_lock(NULL, 2, false, 1, &lock));
    check(nds_arrays_lock(arrays, 1, false, 1, &lock));
    check(nds_unlock(lock, true));
    FAILS(NDS_MISUSE, nds_unlock(lock, true));
    FAILS(NDS_INVALID_VALUE, nds_unlock(NULL, true));
    check(nds_array_free(array));
    FAILS(NDS_MISUSE, nds_array_free(array));
    FAILS(NDS_MISUSE, nds_array_get_info(array, &info));
    check(nds_array_free(NULL));
    assert(nds_array_reference(array) == NULL);

    nds_ring_format format = {0};
    nds_ring *ring;
    nds_writer *writer;
    nds_reader *reader;
    nds_writing *writing, *other;
    nds_frame *frame;
    nds_frame_info seen;
    format.dtype = "uint8";
    FAILS(NDS_INVALID_VALUE, nds_ring_make(NULL, &ring));
    FAILS(NDS_INVALID_VALUE, nds_ring_make(&format, &ring));
    format.slots = 1;
    format.ndim = 2;
    FAILS(NDS_INVALID_VALUE, nds_ring_make(&format, &ring));
    format.shape = shape;
    format.when_full = "explode";
    FAILS(NDS_INVALID_VALUE, nds_ring_make(&format, &ring));
    format.when_full = NULL;
    check(nds_ring_make(&format, &ring));
    FAILS(NDS_INVALID_VALUE, nds_reader_make(ring, true, "group", NULL, 1, &reader));
    FAILS(NDS_INVALID_VALUE, nds_reader_make(ring, false, NULL, "end", 1, &reader));
    check(nds_reader_make(ring, false, NULL, NULL, 1, &reader));
    check(nds_writer_make(ring, 1, &writer));
    FAILS(NDS_EMPTY, nds_reader_get(reader, 0.01, &frame));
    FAILS(NDS_INVALID_VALUE, nds_writer_begin_shaped(writer, NULL, 2, huge, 0.01, &writing));
    const size_t large[] = {100};
    FAILS(NDS_INVALID_VALUE, nds_writer_begin_shaped(writer, NULL, 1, large, 0.01, &writing));
    static char bytes[1 << 20] = {1, 2, 3};
    nds_note note = {NDS_NOTE_BYTES, bytes, 5000}, long_note = {NDS_NOTE_BYTES, bytes, sizeof bytes};
    nds_note no_text = {NDS_NOTE_TEXT, "\\xff", 1}, no_kind = {9, "x", 1}, no_bytes = {NDS_NOTE_JSON, NULL, 1};
    FAILS(NDS_INVALID_VALUE, nds_writer_reserve_note(NULL, 5000));
    check(nds_writer_reserve_note(writer, 5000));
    check(nds_writer_begin(writer, 1, &writing));
    check(nds_writer_reserve_note(writer, 0));
    check(nds_writer_begin(writer, 1, &other));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish(writing, "meta", 4, 1, NULL));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish(writing, NULL, 4, 1, NULL));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish_with_note(other, NULL, 0, &long_note, 1, NULL));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish_with_note(other, NULL, 0, &no_text, 1, NULL));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish_with_note(other, NULL, 0, &no_kind, 1, NULL));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish_with_note(other, NULL, 0, &no_bytes, 1, NULL));
    check(nds_writing_publish_with_note(writing, NULL, 0, &note, 1, NULL));
    FAILS(NDS_MISUSE, nds_writing_publish(writing, NULL, 0, 1, NULL));
    FAILS(NDS_MISUSE, nds_writing_discard(writing));
    FAILS(NDS_FULL, nds_writing_publish(other, NULL, 0, 0.01, NULL));
    check(nds_reader_get(reader, 1, &frame));
    FAILS(NDS_INVALID_VALUE, nds_frame_get_info(frame, NULL));
    check(nds_frame_get_info(frame, &seen));
    assert(seen.seq == 0 && seen.array.readonly && seen.meta == NULL && seen.meta_bytes == 0 && seen.time_ns > 0);
    assert(seen.published_ns >= seen.time_ns);
    const uint64_t published_ns = seen.published_ns;
    nds_note beside;
    FAILS(NDS_INVALID_VALUE, nds_frame_get_note(NULL, &beside));
    FAILS(NDS_INVALID_VALUE, nds_frame_get_note(frame, NULL));
    check(nds_frame_get_note(frame, &beside));
    assert(beside.kind == NDS_NOTE_BYTES && beside.len == 5000 && memcmp(beside.data, bytes, 5000) == 0);
    check(nds_frame_release(frame));
    FAILS(NDS_MISUSE, nds_frame_release(frame));
    const uint64_t stamp = seen.time_ns + 5;
    FAILS(NDS_INVALID_VALUE, nds_writing_set_time_ns(NULL, stamp));
    FAILS(NDS_INVALID_VALUE, nds_writing_set_time_ns(other, UINT64_MAX));
    check(nds_writing_set_time_ns(other, seen.time_ns - 1));
    FAILS(NDS_INVALID_VALUE, nds_writing_publish(other, NULL, 0, 1, NULL));
    check(nds_writing_set_time_ns(other, stamp));
    uint64_t seq = 0;
    nds_note text = {NDS_NOTE_TEXT, "in focus", 8};
    check(nds_writing_publish_with_note(other, NULL, 0, &text, 1, &seq));
    assert(seq == 1);
    check(nds_writer_close(writer, 1));
    FAILS(NDS_MISUSE, nds_writer_close(writer, 1));
    check(nds_reader_get(reader, 1, &frame));
    const nds_code end = nds_reader_get(reader, 1, &frame);
    assert(end == NDS_CLOSED);
    check(nds_reader_close(reader));
    FAILS(NDS_MISUSE, nds_reader_get(reader, 1, &frame));

    FAILS(NDS_INVALID_VALUE, nds_publish_ring(NULL, ring, false, 1));
    FAILS(NDS_INVALID_VALUE, nds_publish_ring("a/b", ring, false, 1));
    FAILS(NDS_INVALID_VALUE, nds_publish_ring("mistakes", NULL, false, 1));
    FAILS(NDS_INVALID_TYPE, nds_publish_array("mistakes", (nds_array *)ring, false, 1));
    check(nds_publish_ring("mistakes", ring, false, 1));
    FAILS(NDS_INVALID_TYPE, nds_attach_array("mistakes", 1, &array));
    FAILS(NDS_INVALID_VALUE, nds_attach_ring("mistakes", 1, NULL));
    check(nds_unpublish("mistakes", 1, NULL));
    FAILS(NDS_TIMEOUT, nds_attach_ring("mistakes", 0, &ring));
    FAILS(NDS_TIMEOUT, nds_attach_ring_readonly("mistakes", 0, &ring));
    FAILS(NDS_INVALID_VALUE, nds_attach_array_readonly(NULL, 0, &array));
    FAILS(NDS_INVALID_VALUE, nds_attach_array_readonly("mistakes", 0, NULL));
    FAILS(NDS_INVALID_VALUE, nds_unpublish(NULL, 1, NULL));
    check(nds_ring_free(ring));
    check(nds_frame_get_info(frame, &seen));
    assert(seen.time_ns == stamp && seen.published_ns > published_ns && seen.published_ns != stamp);
    check(nds_frame_get_note(frame, &beside));
    assert(beside.kind == NDS_NOTE_TEXT && beside.len == 8 && strcmp(beside.data, "in focus") == 0);
    check(nds_frame_release(frame));
    FAILS(NDS_MISUSE, nds_frame_get_note(frame, &beside));
    return failures;
}
"""


def test_a_wrong_call_is_an_error_and_says_what_was_expected(runtime: Path) -> None:
    assert output(of_text("mistakes", MISTAKES), env=environment()) == ""
    assert runtime.exists()


THREADS_AND_FORKS = """
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <assert.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static nds_reader *reader;

static void *wait_for_a_frame(void *code)
{
    nds_frame *frame;
    assert(nds_error()[0] == '\\0');
    *(nds_code *)code = nds_reader_get(reader, -1, &frame);
    return NULL;
}

int main(void)
{
    const size_t shape[] = {4};
    nds_ring_format format = {0};
    format.slots = 4;
    nds_ring *ring;
    check(nds_ring_make(&format, &ring));
    check(nds_reader_make(ring, false, NULL, NULL, 1, &reader));
    pthread_t thread;
    nds_code ended = NDS_OK;
    assert(nds_ring_free((nds_ring *)reader) == NDS_INVALID_TYPE);
    assert(pthread_create(&thread, NULL, wait_for_a_frame, &ended) == 0);
    nanosleep(&(struct timespec){0, 10000000}, NULL);
    check(nds_reader_close(reader));
    assert(pthread_join(thread, NULL) == 0 && (ended == NDS_CLOSED || ended == NDS_MISUSE));

    nds_array *array, *other;
    nds_array_info info;
    nds_lock *lock;
    check(nds_array_make("uint8", 1, shape, &array));
    check(nds_arrays_lock(&array, 1, false, 1, &lock));
    const pid_t child = fork();
    if (child == 0) {
        check(nds_array_get_info(array, &info));
        ((uint8_t *)info.data)[0] = 7;
        check(nds_array_make("uint8", 1, shape, &other));
        _exit(nds_unlock(lock, true) == NDS_MISUSE ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(nds_array_get_info(array, &info));
    check(nds_unlock(lock, true));
    assert(((uint8_t *)info.data)[0] == 7);
    check(nds_array_free(array));
    check(nds_ring_free(ring));
    return WEXITSTATUS(status);
}
"""


def test_threads_and_forked_children_have_the_same_handles() -> None:
    """A thread that waits in a reader is told that it was closed; a child has the arrays, and not the locks."""
    assert output(of_text("threads", THREADS_AND_FORKS), env=environment()) == ""


# OpenCV


@needs_cplusplus
def test_opencv_looks_at_frames_where_they_are() -> None:
    flags = ("-I/usr/include/opencv4", "-lopencv_core")
    probe = ["c++", "-x", "c++", flags[0], "-include", "opencv2/core.hpp", "-E", "-", "-o", os.devnull]
    if subprocess.run(probe, input="", text=True, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs OpenCV's headers (Debian: libopencv-core-dev)")
    mat = compiled(EXAMPLES / "mat.cpp", "c++", (*linked(), *flags))
    ring = nds.Ring((30, 40), np.uint16, slots=8)
    with running(mat, str(nds.ref(ring)), stdout=subprocess.PIPE) as reader:
        assert wait_until(lambda: has_reader(ring))
        with ring:
            for n in range(3):
                ring.put(np.full((30, 40), n, np.uint16), timeout=HANG)
        out, _ = reader.communicate(timeout=HANG)
    assert (out.splitlines(), reader.returncode) == ([f"{n}: 30 40 {n}" for n in range(3)], 0)
