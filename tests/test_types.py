"""Type checkers know what arrays hold: `typed_programs.py` says what of which, and is right when it runs, too."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import ndshare as nds
import typed_programs
from helpers import HANG

ROOT = Path(__file__).resolve().parent.parent
# What a stub that says less would make of a program.
DEGRADED = """
from typing import Any, assert_type
import numpy as np
from numpy.typing import NDArray
import ndshare as nds
plain: Any = nds
assert_type(plain.zeros(3, np.uint16), NDArray[np.uint16])
assert_type(nds.zeros(3, "uint16"), NDArray[np.uint16])
print(nds.zeros(3, "complex64").real)
"""


def pyright(*files: Path) -> Iterator[tuple[int, str]]:
    """Go through what pyright, strict as for the sources, finds in files: line and rule."""
    program = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pyright is not installed; `make check` has it")
    command = [program, "--outputjson", "--pythonpath", sys.executable, "-p", str(ROOT), *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * HANG, check=False)
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            yield found["range"]["start"]["line"] + 1, found.get("rule", found["message"])


def test_a_checker_knows_and_what_it_does_not_is_seen(tmp_path: Path) -> None:
    degraded = tmp_path / "degraded.py"
    # Strictness is of the project, and this file is not in it.
    degraded.write_text("# pyright: strict" + DEGRADED)
    found = [(line, rule) for line, rule in pyright(ROOT / "tests" / "typed_programs.py", degraded)]
    last = DEGRADED.count("\n")
    assert {line for line, _ in found} == {last - 2, last - 1, last}, found
    assert {"reportAssertTypeFailure", "reportAttributeAccessIssue"} <= {rule for _, rule in found}


MYPYS = """
import numpy as np
import ndshare as nds
nds.Overlay(floats={"A": ((100, 100), "f4"), "B": (100, "f8")}, ints={"D": (5000, np.int32)})
nds.Overlay(pairs=[("A", ((100, 100), "f4")), ("B", (100, "f8"))], name="x")
for frame in nds.Ring(3, np.uint8, slots=2).reader():
    print(frame.seq + 1, frame.origin.seq)
nds.Overlay(wrong=3)
"""


def test_mypy_takes_what_the_pages_write(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    program = tmp_path / "program.py"
    program.write_text(MYPYS)
    out, _, _ = api.run(["--strict", "--cache-dir", str(ROOT / ".mypy_cache"), str(program)])
    assert {line.split(":")[1] for line in out.splitlines() if ": error:" in line} == {str(MYPYS.count("\n"))}, out


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let `assert_type` compare with what is there, as far as that can be told."""
    told: list[Any] = []

    def compare(value: Any, expected: Any) -> Any:
        of = get_args(expected)[-1:]
        inner = [item for one in of for item in get_args(one)]
        items = [item for item in (*of, *inner) if isinstance(item, type) and issubclass(item, np.generic)]
        if items and hasattr(value, "dtype"):
            got = getattr(value, "result_dtype", value.dtype)
            assert issubclass(got.type, items[0]), (got, expected)
            told.append(expected)
        return value

    monkeypatch.setattr(typed_programs, "assert_type", compare)
    return told


@pytest.mark.parametrize("program", typed_programs.PROGRAMS, ids=lambda program: program.__name__)
def test_what_is_typed_is_so_when_it_runs(program: Callable[[], None], told: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program()
    if program is typed_programs.makers:
        assert len(told) > 5, "nothing was compared"


def test_a_class_of_fields_has_to_fit() -> None:
    overlay = nds.Overlay(a={"A": ((2, 3), "f4"), "B": (3, "f8")})

    class Fewer:
        A: np.ndarray[Any, np.dtype[np.float32]]

    class Other(Fewer):
        B: np.ndarray[Any, np.dtype[np.float32]]

    class Wider(Fewer):
        B: np.ndarray[Any, np.dtype[np.floating[Any]]]
        first: bool

    class Untold:
        A: Any
        B: np.ndarray[Any, Any]

    class Partly:
        A: NDArray[Any]
        B: NDArray[np.float64]

    class Alias(Partly):
        A: NDArray[np.uint8]

    with pytest.raises(TypeError, match="expected a class with its fields A, B, got Fewer with A"):
        overlay.use("a", fields=Fewer)
    with pytest.raises(
        TypeError, match=r"Other.B to be NDArray\[np.float64\], as the field is, got NDArray\[np.float32\]"
    ):
        overlay.use("a", fields=Other)
    with pytest.raises(
        TypeError, match=r"Alias.A to be NDArray\[np.float32\], as the field is, got NDArray\[np.uint8\]"
    ):
        overlay.use("a", fields=Alias)
    for cls in Wider, Untold, Partly:
        with overlay.use("a", 1, cls) as v:
            assert v.B.shape == (3,)
    with pytest.raises(ValueError, match="expected one of the uses a, got 'b'"):
        overlay.use("b", fields=Fewer)


def test_what_is_generic_can_be_written_when_it_runs() -> None:
    for cls in nds.Cache, nds.Canvas, nds.Frame, nds.OfferedRing, nds.Reader, nds.Ring, nds.Writer:
        assert repr(cls[np.uint16]) == f"ndshare.{cls.__name__}[numpy.uint16]"
        assert isinstance(nds.Ring(3, slots=2), nds.Ring)
    assert get_args(nds.fft.Plan[np.uint16, np.complex64]) == (np.uint16, np.complex64)
    ring = nds.Ring[np.uint16](3, "uint16", slots=2)
    assert type(ring) is nds.Ring
