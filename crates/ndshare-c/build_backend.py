"""What pip calls to build the package: maturin, after the C library was put where maturin takes it from.

``python crates/ndshare-c/build_backend.py ARGUMENTS`` puts it there and no more; the arguments are cargo's.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARY = ROOT / "python" / "ndshare" / "lib" / "libndshare.so"
STRIP = ("--", "-C", "strip=symbols")


def build_library(*arguments: str) -> None:
    """Build the C library and put it into the package. It shares the extension's profile, and so what it stands on."""
    command = ["cargo", "rustc", "--release", "--package", "ndshare-c", "--lib"]
    command += ["--message-format", "json-render-diagnostics"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    files = [file for line in done.stdout.splitlines() for file in json.loads(line).get("filenames", [])]
    built = next(file for file in files if Path(file).name == LIBRARY.name)
    LIBRARY.unlink(missing_ok=True)  # a program that runs goes on with the one it has
    shutil.copy(built, LIBRARY)


def build_wheel(*arguments: Any, **options: Any) -> str:
    """Build a wheel, as PEP 517 has it, without what debuggers read: that is more than half of the bytes."""
    build_library(*STRIP)
    os.environ.setdefault("MATURIN_STRIP", "true")
    return maturin.build_wheel(*arguments, **options)


def build_editable(*arguments: Any, **options: Any) -> str:
    """Build a wheel that leads to the sources, as PEP 660 has it."""
    build_library()
    return maturin.build_editable(*arguments, **options)


if __name__ == "__main__":
    build_library(*sys.argv[1:])
