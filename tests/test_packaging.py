"""What is delivered: where it refuses to be imported, what a wheel must have, and one version everywhere."""

import re
import runpy
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import ndshare as nds

ROOT = Path(__file__).resolve().parent.parent
CHECK = runpy.run_path(str(ROOT / "packaging" / "check_wheel.py"))


def elf(*names: str) -> bytes:
    """Return the shortest ELF file with these sections, whose names are in the last one."""
    texts = [name.encode() + b"\0" for name in names]
    starts = [sum(map(len, texts[:number])) for number in range(len(texts))]
    heads = b"".join(struct.pack("<I20xQQ24x", start, 64 + 64 * len(texts), 0) for start in starts)
    return (
        b"\x7fELF".ljust(0x28, b"\0")
        + struct.pack("<Q10xHHH", 64, 64, len(names), len(names) - 1)
        + heads
        + b"".join(texts)
    )


METADATA = """Metadata-Version: 2.4
Name: ndshare
Version: 1.0
Summary: arrays
Keywords: numpy
Author: us
License-Expression: MIT
Requires-Python: >=3.11
Project-URL: Repository, https://example.org
Description-Content-Type: text/markdown

# ndshare

[arrays](https://example.org/arrays)
"""
FILES = {
    "ndshare/__init__.py": "",
    "ndshare/_native.abi3.so": "",
    "ndshare/_native.pyi": "",
    "ndshare/py.typed": "",
    "ndshare/include/ndshare.h": "",
    "ndshare/lib/libndshare.so": elf(".text", ".shstrtab"),
    "ndshare/lib/pkgconfig/ndshare.pc": "",
    "ndshare-1.0.dist-info/licenses/LICENSE-MIT": "",
    "ndshare-1.0.dist-info/licenses/LICENSE-APACHE": "",
    "ndshare-1.0.dist-info/entry_points.txt": "",
    "ndshare-1.0.dist-info/METADATA": METADATA,
}


def complaints(folder: Path, files: Mapping[str, str | bytes]) -> list[str]:
    path = folder / "ndshare-1.0-cp311-abi3-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return CHECK["complaints"](path)


def test_a_good_wheel_is_good(tmp_path: Path) -> None:
    assert complaints(tmp_path, FILES) == []


@pytest.mark.parametrize("name", FILES)
def test_what_a_wheel_lacks_is_seen(name: str, tmp_path: Path) -> None:
    assert len(complaints(tmp_path, {other: text for other, text in FILES.items() if other != name})) == 1


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("ndshare/_native.cpython-311-x86_64-linux-gnu.so", "", "_native"),  # a second extension
        ("ndshare/lib/libndshare.so", elf(".text", ".debug_info", ".shstrtab"), "debuggers"),
        ("ndshare/__pycache__/x.pyc", "", "pyc"),
        ("ndshare-1.0.dist-info/METADATA", METADATA.replace("Author: us\n", ""), "Author"),
        ("ndshare-1.0.dist-info/METADATA", METADATA + "[a page](docs/arrays.md)\n", "docs/arrays.md"),
    ],
)
def test_what_is_wrong_with_a_wheel_is_seen(name: str, text: str | bytes, complaint: str, tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, FILES | {name: text})
    assert complaint in found


def refused(folder: Path, program: str) -> str:
    """Return the last line of the error with which an import ends."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_an_old_numpy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text('__version__ = "1.26.4"\n')
    error = refused(tmp_path, f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import ndshare")
    assert error == "ImportError: expected NumPy 2.0 or newer, got 1.26.4: pip install --upgrade 'numpy>=2'"


def test_another_system_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "import sys; sys.platform = 'darwin'; import ndshare")
    assert error.startswith("ImportError: ndshare needs Linux")


def test_a_missing_compiled_part_is_named(tmp_path: Path) -> None:
    """Python took it for a circular import."""
    package = tmp_path / "ndshare"
    package.mkdir()
    for source in Path(nds.__file__).parent.glob("*.py"):
        shutil.copy(source, package)
    error = refused(tmp_path, f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; import ndshare")
    assert error.startswith(
        f"ImportError: expected ndshare's compiled part, _native, in {package}, got none that Python"
    )
    assert error.endswith("pip install .")


@pytest.mark.parametrize("page", ["CITATION.cff", "packaging/conda/recipe.yaml", "Cargo.toml"])
def test_there_is_one_version(page: str) -> None:
    (version,) = re.findall(r'^ *version(?: =|:) "?([\d.]+)"?$', (ROOT / page).read_text(), re.MULTILINE)
    assert version == nds.__version__
