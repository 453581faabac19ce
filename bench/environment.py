"""The environment of the bench, `.venv/bench`: `python -m bench.environment [PYTHON]`.

It has the peers of the dependency group `bench`, in a Python from 3.13 on if there is one, for the newest NumPy and
SciPy want that. A peer that cannot be installed is named and left out; the run names it again. ndshare is that of the
sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv" / "bench"
WANTED = ("3.14", "3.13")


def interpreter() -> str:
    """Return the Python to use: the first of the wanted ones that runs, else this one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in WANTED:
        kept = sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))
        for python in [*kept, *filter(None, [shutil.which(f"python{version}")])]:
            # The shims of pyenv are there for versions that are not switched on, too: these do not run.
            if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return python
    return sys.executable


def requirements() -> list[str]:
    """Return what the dependency group asks for."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["bench"]


def install(python: Path, *wanted: str) -> bool:
    """Install something; say whether that was possible."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *wanted]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main() -> None:
    """Make it."""
    subprocess.run([sys.argv[1] if len(sys.argv) > 1 else interpreter(), "-m", "venv", VENV], check=True)
    python = VENV / "bin" / "python"
    wanted = ["numpy>=2.0", *requirements()]
    # All at once is quicker, and one after the other says which.
    missing = [] if install(python, *wanted) else [one for one in wanted if not install(python, one)]
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = subprocess.check_output([python, "-c", ask], text=True).strip()
    Path(folder, "ndshare.pth").write_text(f"{ROOT / 'python'}\n")
    if missing:
        print(f"Left out, for pip could not install them: {', '.join(missing)}.", file=sys.stderr)


if __name__ == "__main__":
    main()
