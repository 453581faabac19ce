"""Run the tests on each Python that this machine has: ``make test-all``. It ends with a line for each that there is.

Arguments are pytest's; without any it runs all tests. Each Python has a venv of its own, under target/pythons/. One
extension serves all that have a lock, and lies in the package already. Pythons without one get an extension of their
own. What is looked for: ``python3.X`` on the path, and those of pyenv. A package of the tests that has no wheel for a
Python is left out there; the tests that want it are skipped.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / "target" / "pythons"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15", "3.14t", "3.15t")
ASK = """
import sys, sysconfig
print('%d.%d' % sys.version_info[:2] + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')))
"""


def version_of(python: str) -> str | None:
    """Return which of the versions an interpreter is; none if it does not run."""
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def interpreters() -> dict[str, str]:
    """Return an interpreter for each version that there is."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # The shims of pyenv are on the path, too, also for versions that are not switched on: these do not run.
    named = [found for version in VERSIONS if (found := shutil.which(f"python{version}"))]
    kept = sorted(str(python) for python in pyenv.glob("versions/*/bin/python"))
    found = {version: python for python in [*kept, *named] if (version := version_of(python))}
    return {version: found[version] for version in VERSIONS if version in found}


def requirements(group: str) -> list[str]:
    """Return what a dependency group of pyproject.toml asks for, with the groups that it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    parts = [requirements(part["include-group"]) if isinstance(part, dict) else [part] for part in groups[group]]
    return [requirement for part in parts for requirement in part]


def pip(python: Path, *arguments: str) -> bool:
    """Install something into a venv; false where that fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def venv(version: str, interpreter: str) -> tuple[Path, list[str]]:
    """Make a venv with what the tests need; return its Python, and the packages that it could not have."""
    python = VENVS / version / "bin" / "python"
    subprocess.run([interpreter, "-m", "venv", VENVS / version], check=True)
    wanted = requirements("test")
    missing = list[str]()
    # All at once is quicker, and one after the other says which.
    if not pip(python, "--only-binary=:all:", *wanted):
        missing = [one for one in wanted if not pip(python, "--only-binary=:all:", one)]
    folder = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(folder.strip()) / "ndshare.pth").write_text(f"{ROOT / 'python'}\n")
    command = python.with_name("ndshare")
    command.write_text(f"#!{python}\nimport sys\nfrom ndshare.__main__ import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return python, missing


def build(python: Path) -> None:
    """Put an extension for this Python alone beside the one for all others."""
    pip(python, *requirements("build"))
    maturin = ["maturin", "develop", "--release", "--skip-install", "--features", "killpoints"]
    environment = {
        **os.environ,
        "VIRTUAL_ENV": str(python.parent.parent),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    environment.pop("CONDA_PREFIX", None)
    target = ["--target-dir", str(ROOT / "target" / "killpoints")]
    subprocess.run([python.with_name("maturin"), *maturin[1:], *target], cwd=ROOT, env=environment, check=True)


def run(version: str, interpreter: str, arguments: list[str]) -> str:
    """Run the tests on one Python, and return how that went."""
    print(f"---- Python {version}: {interpreter}", flush=True)
    python, missing = venv(version, interpreter)
    if version.endswith("t"):
        build(python)
    done = subprocess.run(
        [python, "-m", "pytest", *(arguments or ["-n", "2", "--dist", "worksteal"])], cwd=ROOT, check=False
    )
    without = f", without {', '.join(missing)}" if missing else ""
    return ("passed" if done.returncode == 0 else f"FAILED ({done.returncode})") + without


def main(arguments: list[str]) -> int:
    """Run the tests everywhere, and return the exit status."""
    found = interpreters()
    results = {version: run(version, python, arguments) for version, python in found.items()}
    print()
    for version in VERSIONS:
        print(f"Python {version:5}  {results.get(version, 'missing on this machine')}")
    return 1 if not results or any("FAILED" in result for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
