"""Ten actions under each limit: each ends well, or with an error of ours that names the limit. No signal, no hang.

`limits.py` is the process under the limit, here are the rows and the judge. ``python tests/test_limits_matrix.py``
prints the table of `docs/reliability.md`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import ndshare as nds
from helpers import HANG, HERE, MIB, ROUNDS, environment
from limits import ACTIONS, LIMITS
from test_limits import group, memory_groups

PROGRAM = HERE / "limits.py"


class Row(NamedTuple):
    """A limit, as a reader knows it, and what an error under it has to name."""

    limit: str
    title: str
    names: str = ""  # nothing is to be named: every action ends well
    # Actions that end in an error of Python's own, before ours is asked for anything.
    pythons: tuple[str, ...] = ()
    crash: bool = False  # only in `make crash`


ROWS = [
    Row("none", "none"),
    Row("shm", "`/dev/shm` of 64 KiB"),
    Row("budget", "`NDSHARE_BUDGET` of 48 MiB", "NDSHARE_BUDGET"),
    Row("cgroup", "memory cgroup of 128 MiB, version 1", "cgroup"),
    Row("cgroup 2", "memory cgroup of 128 MiB, version 2", "cgroup"),
    Row("fsize 0", "`RLIMIT_FSIZE` of 0", "RLIMIT_FSIZE"),
    Row("fsize", "`RLIMIT_FSIZE` of 100 MiB", "RLIMIT_FSIZE"),
    Row("as", "`RLIMIT_AS`, 700 MiB free", "RLIMIT_AS"),
    Row("as small", "`RLIMIT_AS`, 150 MiB free", "RLIMIT_AS"),
    Row("nofile", "`RLIMIT_NOFILE`, 12 free", crash=True),
    Row("nofile small", "`RLIMIT_NOFILE`, 2 free", r"descriptor|ulimit -n|open files", ("fork", "spawn")),
    Row("nproc", "`RLIMIT_NPROC`, none free", "temporarily unavailable", ("fork", "spawn")),
    Row("memlock", "`RLIMIT_MEMLOCK` of 0"),
    Row("overcommit", "`vm.overcommit_memory` of 2, 24 MiB left", r"vm\.overcommit_memory is 2"),
    Row("populate", "the kernel gives no pages", "the kernel gave no memory"),
    Row("thp", "no 2-MiB pages"),
    Row("memfd_create ENOSYS", "no `memfd_create`", "memfd_create"),
    Row("memfd_create EPERM", "`memfd_create` refused", "memfd_create", crash=True),
    Row("futex_waitv ENOSYS", "no `futex_waitv`"),
    Row("futex_waitv EPERM", "`futex_waitv` refused", crash=True),
    Row("pidfd_open ENOSYS", "no `pidfd_open`"),
    Row("pidfd_open EPERM", "`pidfd_open` refused", crash=True),
    Row("madvise ENOSYS", "no `madvise`", "madvise"),
    Row("madvise EPERM", "`madvise` refused", "madvise", crash=True),
    Row("no proc", "no `/proc`", "/proc is not mounted"),
    Row("hidepid", "`/proc` with `hidepid=2`"),
    Row("user namespace", "user namespace of its own", "another user namespace"),
    Row("pid namespace", "pid namespace of its own", "another container"),
    Row("read-only", "everything mounted read-only"),
]


def version_2() -> tuple[Path, str]:
    """Return this process's group in the hierarchy of version 2, if memory is counted there."""
    found = memory_groups()
    if found is None or found[1] != "memory.max":
        pytest.skip("memory is not counted by cgroups of version 2 here, for one version has it at a time")
    return found


@contextmanager
def surroundings(row: Row) -> Iterator[dict[str, str]]:
    """Make what a process alone cannot: a memory cgroup. What goes into its environment comes out."""
    if not row.limit.startswith("cgroup"):
        yield {}
        return
    if row.limit == "cgroup 2":
        version_2()
    elif (found := memory_groups()) is not None and found[1] == "memory.max":
        pytest.skip("memory is counted by cgroups of version 2 here, for one version has it at a time")
    with group(128 * MIB) as path:
        yield {"LIMITS_CGROUP": str(path)}


def run_under(row: Row) -> list[dict[str, Any]]:
    """Run all actions under a limit; return what was said of each, in their order."""
    array = nds.ones(1000)
    with surroundings(row) as variables:
        # More threads than one, and no user namespace can be entered.
        env = environment(OPENBLAS_NUM_THREADS="1", NDSHARE_BUDGET="1 GiB", **variables)
        command = [sys.executable, str(PROGRAM), row.limit.removesuffix(" 2"), str(nds.ref(array))]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=3 * HANG, check=False)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"hung after {error.stdout!r}") from None
    said = [json.loads(line) for line in done.stdout.splitlines()]
    if said and "skip" in said[0]:
        pytest.skip(f"this machine permits it not: {said[0]['skip']}")
    assert done.returncode == 0, f"ended with {done.returncode} after {said[-1:]}\n{done.stderr}"
    assert [one["action"] for one in said] == list(ACTIONS)
    return said


def complaint(row: Row, said: dict[str, Any]) -> str | None:
    """Say what is wrong with one cell, if anything is."""
    if said["type"] == "ok":
        return None
    cell = f"{said['action']} under {row.title}: {said['type']}: {said['text']}"
    if said["action"] in row.pythons:
        is_errno = said["type"] in ("OSError", "BlockingIOError")
        return None if is_errno and re.search(row.names, said["text"], re.IGNORECASE) else cell
    if not said["ours"]:
        return f"not an error of ours: {cell}"
    return None if re.search(row.names, said["text"]) else f"the limit is not named: {cell}"


ONLY_CRASH = (
    pytest.mark.crash,
    pytest.mark.skipif(ROUNDS == 1, reason="much like another row: make crash runs it"),
)


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.limit, marks=ONLY_CRASH if row.crash else ()) for row in ROWS]
)
def test_each_action_ends_well_or_names_the_limit(row: Row) -> None:
    said = run_under(row)
    complaints = [wrong for one in said if (wrong := complaint(row, one))]
    assert not complaints, "\n".join(complaints)
    is_felt = any(one["type"] != "ok" for one in said)
    assert is_felt == bool(row.names), "the limit was not one" if row.names else said


def test_the_judge_sees_what_is_wrong() -> None:
    row = Row("x", "RLIMIT_X", "RLIMIT_X", ("fork",))
    ours = {"action": "write", "type": "ArenaFull", "text": "RLIMIT_X is 3", "ours": True}
    assert complaint(row, {"action": "write", "type": "ok"}) is None
    assert complaint(row, ours) is None
    assert "not named" in str(complaint(row, ours | {"text": "no room"}))
    assert "not an error of ours" in str(complaint(row, ours | {"ours": False}))
    theirs = {"action": "fork", "type": "OSError", "text": "RLIMIT_X", "ours": False}
    assert complaint(row, theirs) is None
    assert complaint(row, theirs | {"type": "RuntimeError"})
    assert complaint(row, theirs | {"text": "Success"})


def test_there_is_a_row_for_each_limit() -> None:
    assert {row.limit.removesuffix(" 2") for row in ROWS} == set(LIMITS)


def test_the_page_has_each_row() -> None:
    lines = (HERE.parent / "docs" / "reliability.md").read_text().split("## Limits")[1]
    lines = lines.split("\n## ")[0].splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| limit",
        *(f"| {row.title}" for row in ROWS),
    ]


# ---- the table of docs/reliability.md -------------------------------------------------------------------------------


def table() -> str:
    """Return the matrix in Markdown, as this machine gives it."""
    lines = ["| limit | " + " | ".join(ACTIONS) + " |", "|---|" + "---|" * len(ACTIONS)]
    for row in ROWS:
        try:
            cells = ["ok" if one["type"] == "ok" else f"`{one['type']}`" for one in run_under(row)]
        except pytest.skip.Exception as skipped:
            cells = [f"not tried: {skipped.msg}", *[""] * (len(ACTIONS) - 1)]
        lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> str:
    """Return kernel and processor in words."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    return f"Linux {os.uname().release}, {model[1] if model else os.uname().machine}, {os.cpu_count()} cores, as {user}"


if __name__ == "__main__":
    print(machine() + "\n\n" + table())
