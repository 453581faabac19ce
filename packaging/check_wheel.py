"""Say what is wrong with wheels: ``python packaging/check_wheel.py dist/*.whl``, with any Python.

A wheel has the extension, the C library and its header, the types and both licences, nothing twice, no symbols for
debuggers, and metadata with which an index can show it. Exits with 1 if anything is missing.
"""

import re
import struct
import sys
import zipfile
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

# Bytes of the whole file. With what debuggers read it is more than twice as long.
MOST_BYTES = 16 << 20
NEEDED = (
    r"ndshare/__init__\.py",
    r"ndshare/_native\.(abi3|abi3t|cpython-3\d+t?-[\w-]+)\.so",
    r"ndshare/_native\.pyi",
    r"ndshare/py\.typed",
    r"ndshare/include/ndshare\.h",
    r"ndshare/lib/libndshare\.so",
    r"ndshare/lib/pkgconfig/ndshare\.pc",
    r"[^/]+\.dist-info/licenses/LICENSE-MIT",
    r"[^/]+\.dist-info/licenses/LICENSE-APACHE",
    r"[^/]+\.dist-info/entry_points\.txt",
)
FIELDS = ("Name", "Version", "Summary", "Keywords", "Author", "License-Expression", "Requires-Python", "Project-URL")
# A link that an index cannot follow: it has no other pages of ours.
RELATIVE = re.compile(r"\]\((?!https?://|#|mailto:)[^)]*\)")


def sections(elf: bytes) -> list[bytes]:
    """Return the names of the sections of a 64-bit ELF file; none of another file."""
    if not elf.startswith(b"\x7fELF"):
        return []
    first, length, count, of_names = struct.unpack_from("<Q10xHHH", elf, 0x28)
    heads = [struct.unpack_from("<I20xQQ", elf, first + length * number) for number in range(count)]
    names = elf[heads[of_names][1] :]
    return [names[name:].partition(b"\0")[0] for name, _, _ in heads]


def complaints(path: Path) -> list[str]:
    """Return what is wrong with one wheel, a sentence each."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        found = [
            f"expected one {need}, got {len(matches)}"
            for need in NEEDED
            if len(matches := [name for name in names if re.fullmatch(need, name)]) != 1
        ]
        found += [f"expected no {name}" for name in names if name.endswith((".pyc", ".rs", ".a"))]
        found += [
            f"expected {name} without symbols for debuggers"
            for name in names
            if name.endswith(".so") and b".debug_info" in sections(wheel.read(name))
        ]
        found += _metadata(wheel, names)
    size = path.stat().st_size
    return found + ([f"expected at most {MOST_BYTES} bytes, got {size}"] if size > MOST_BYTES else [])


def _metadata(wheel: zipfile.ZipFile, names: list[str]) -> list[str]:
    place = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
    if place is None:
        return ["expected METADATA, got none"]
    metadata = BytesParser(policy=default).parsebytes(wheel.read(place))
    found = [f"expected the field {field} in METADATA, got none" for field in FIELDS if not metadata.get(field)]
    text = metadata.get_content() if metadata.get_content_type() == "text/plain" else str(metadata.get_payload())
    return found + [f"expected links that lead somewhere from an index, got {link}" for link in RELATIVE.findall(text)]


def main(paths: list[str]) -> int:
    """Print what is wrong with each wheel, and return the exit status."""
    wrong = 0
    for path in map(Path, paths):
        found = complaints(path)
        wrong += len(found)
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB, {'good' if not found else 'wrong'}")
        for complaint in found:
            print(f"  {complaint}")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
