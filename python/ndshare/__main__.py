# pyright: reportPrivateUsage=false
"""The command ``ndshare``, also ``python -m ndshare``. It is written in Rust, but for what other libraries do."""

import signal
import sys

from . import _native


def main() -> int:
    """Run the command line of this process, and return the exit status."""
    verb, *rest = sys.argv[1:] or [""]
    if verb == "bridge" and not {"-h", "--help"} & set(rest):
        return _bridge(rest)
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


if __name__ == "__main__":
    sys.exit(main())
