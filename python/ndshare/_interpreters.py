"""Only the main interpreter of a process may have ndshare, as there is one session, and one set of holds, in each."""

import importlib
import sys
from typing import Any


def refuse_others() -> None:
    """Raise ImportError in another interpreter, into which an older NumPy can be imported."""
    interpreters: Any = importlib.import_module(
        "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    )
    if interpreters.get_current() != interpreters.get_main():
        raise ImportError("expected the main interpreter of the process, got another: import ndshare there alone")
