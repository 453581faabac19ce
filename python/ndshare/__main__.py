# pyright: reportPrivateUsage=false
"""The command ``ndshare``, also ``python -m ndshare``. It is written in Rust, but for what other libraries do."""

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from . import _native

NO_SOURCES = (
    "ndshare: The benchmarks with peers are in the sources, and not in the package: "
    "git clone https://github.com/ndshare/ndshare && cd ndshare && make bench"
)


def main() -> int:
    """Run the command line of this process, and return the exit status."""
    verb, *rest = sys.argv[1:] or [""]
    if verb == "bridge" and not {"-h", "--help"} & set(rest):
        return _bridge(rest)
    if verb == "bench" and "--peers" in rest and not {"-h", "--help"} & set(rest):
        return _bench(rest)
    words = [word for word in sys.argv[1:] if word != "--json"]
    if words[:1] in (["record"], ["replay"]) and not {"-h", "--help"} & set(words):
        from . import _record_command

        return _record_command.main(words, is_json=len(words) < len(sys.argv) - 1)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it as it ends any other command
    return _native.run_command(["ndshare", *sys.argv[1:]])


def _bridge(arguments: list[str]) -> int:
    try:
        from .net import _command
    except ImportError as error:
        print(f"ndshare: {error}", file=sys.stderr)
        return 1
    return _command.main(arguments)


def _bench(arguments: list[str]) -> int:
    """Run the benchmarks of the sources, which this package belongs to or which we stand in."""
    folders = [Path(__file__).resolve().parents[2], Path.cwd(), *Path.cwd().parents]
    sources = next((folder for folder in folders if (folder / "bench" / "suite.py").is_file()), None)
    if sources is None:
        print(NO_SOURCES, file=sys.stderr)
        return 1
    if find_spec("rich") is None:
        print("ndshare: The benchmarks with peers need rich: pip install rich", file=sys.stderr)
        return 1
    options = [option for option in arguments if option not in ("--peers", "--json")]
    options += ["--json", "-"] * ("--json" in arguments)
    return subprocess.run([sys.executable, "-m", "bench", *options], cwd=sources, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
