# pyright: reportPrivateUsage=false
"""The command ``ndshare``, also ``python -m ndshare``. It is written in Rust."""

import signal
import sys

from . import _native


def main() -> int:
    """Run the command line of this process, and return the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it as it ends any other command
    return _native.run_command(["ndshare", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
