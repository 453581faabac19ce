"""Where the C header and the C library are, for programs that are compiled against them."""

from pathlib import Path


def get_include() -> str:
    """Return the folder of ``ndshare.h``, for a C compiler's ``-I``."""
    return str(_here() / "include")


def get_library() -> str:
    """Return the folder of ``libndshare.so``, for a linker's ``-L`` and ``-rpath``; its ``pkgconfig`` is pkg-config's.

    Raises FileNotFoundError when the package was built without it.
    """
    folder = _here() / "lib"
    if not (folder / "libndshare.so").exists():
        raise FileNotFoundError(
            f"expected libndshare.so in {folder}, got a package that was built without it: install it with pip, or run "
            "crates/ndshare-c/build_backend.py"
        )
    return str(folder)


def _here() -> Path:
    # Not at import: this looks at every folder of the path.
    return Path(__file__).resolve().parent


get_include.__module__ = get_library.__module__ = "ndshare"
