"""Each program in `attacks/` tries to break something, and must not get through.

They are programs of their own, so that they can be read and run by hand. One that this machine cannot run is skipped
and says why.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import HANG, HERE, environment

FOLDER = HERE.parent / "attacks"
ATTACKS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "common")
CANNOT = 77


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Give a registry of names that nobody else has; its path is short, as those of sockets have to be."""
    folder = Path(tempfile.mkdtemp(prefix="ndshare-tests-"))
    yield folder
    shutil.rmtree(folder)


def judge(program: Path, runtime: Path) -> None:
    """Run an attack; fail when it got through, skip when this machine cannot do it."""
    env = environment(PYTHONPATH=str(FOLDER), XDG_RUNTIME_DIR=str(runtime), OPENBLAS_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=2 * HANG, check=False
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, f"{program.stem} got through, or failed ({done.returncode}):\n{done.stderr}"
    assert done.stdout.strip(), "it says what it tried"


@pytest.mark.parametrize("program", ATTACKS, ids=lambda path: path.stem)
def test_an_attack_is_withstood(program: Path, runtime: Path) -> None:
    judge(program, runtime)


@pytest.mark.parametrize(
    "source",
    [
        "with refused(ValueError): pass",
        "with refused(ValueError, 'these words'): raise ValueError('others')",
        "with refused(ValueError): raise KeyError",
        "survives(lambda: os.kill(os.getpid(), 11))",
        "survives(lambda: 1 / 0)",
        "with other(lambda line: os._exit(3)): pass",
        "with other(lambda line: line.recv()[3]) as line: line.send('x')",
    ],
)
def test_an_attack_that_gets_through_is_seen(source: str, runtime: Path, tmp_path: Path) -> None:
    program = tmp_path / "attack.py"
    program.write_text(f"import os\nfrom common import *\n{source}\nprint('withstood')\n")
    with pytest.raises(AssertionError, match="got through"):
        judge(program, runtime)


def test_each_attack_is_told() -> None:
    """The page lists each program once, and each begins with what it tries and what must happen."""
    page = (FOLDER / "README.md").read_text()
    for program in ATTACKS:
        assert page.count(f"[{program.stem}]({program.name})") == 1, program.name
        assert program.read_text().count('"""') >= 2
    assert page.count(".py)") == len(ATTACKS)
