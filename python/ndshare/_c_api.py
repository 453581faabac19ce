"""Where the C header and the C library are, for programs that are compiled against them."""

import os


def get_include() -> str:
    """Return the folder of ``ndshare.h``, for a C compiler's ``-I``.

    >>> import ndshare as nds, os
    >>> os.path.exists(os.path.join(nds.get_include(), "ndshare.h"))
    True
    """
    return os.path.join(_here(), "include")


def get_library() -> str:
    """Return the folder of ``libndshare.so``, for a linker's ``-L`` and ``-rpath``; its ``pkgconfig`` is pkg-config's.

    Raises FileNotFoundError when the package was built without it.

    >>> import ndshare as nds, os
    >>> os.path.exists(os.path.join(nds.get_library(), "libndshare.so"))
    True
    """
    folder = os.path.join(_here(), "lib")
    if not os.path.exists(os.path.join(folder, "libndshare.so")):
        raise FileNotFoundError(
            f"expected libndshare.so in {folder}, got a package that was built without it: install it with pip, or run "
            "crates/ndshare-c/build_backend.py"
        )
    return folder


def _here() -> str:
    # Not at import: this looks at every folder of the path.
    return os.path.dirname(os.path.realpath(__file__))


get_include.__module__ = get_library.__module__ = "ndshare"
