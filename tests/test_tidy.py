"""The house keeps its order: floors, rooms for unsafe code, and nothing of one machine in the repository.

Each rule is a function from text to a list of complaints. The first half of the tests runs the rules over the
repository; the second half shows that each rule complains about a small bad sample.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "crates" / "ndshare" / "src"
CRATE_FOLDERS = ("crates/ndshare/src/", "crates/ndshare-py/src/", "crates/ndshare-c/src/", "crates/ndshare-zenoh/src/")

# A module names only modules of lower floors. Modules that share a floor are blind to each other.
FLOORS = [
    {"error", "prim", "dice"},
    {"layout", "varint", "head", "models"},
    {"element"},
    {"kernel"},
    {"os"},
    {"arena", "pool"},
    {"array", "lock", "malloc"},
    {"session", "registry"},
    {"ring", "overlay", "gather", "fft"},
    {"cache"},
    {"names"},
    {"fuzzing"},
    {"scribble"},
]
FLOOR_OF = {module: number for number, floor in enumerate(FLOORS) for module in floor}

# Circles of files that are known, by folder or file. Each that is mended leaves this list; none joins it.
KNOWN_CIRCLES: tuple[tuple[str, ...], ...] = ()

# The rooms that own unsafe code. Everything else is safe Rust.
UNSAFE_ROOMS = (
    "crates/ndshare/examples/fft_bench.rs",
    "crates/ndshare/src/prim.rs",
    "crates/ndshare/src/os/",
    "crates/ndshare/src/arena/backing.rs",
    "crates/ndshare/src/arena/control.rs",
    "crates/ndshare/src/arena/fork.rs",
    "crates/ndshare/src/arena/hold.rs",
    "crates/ndshare/src/arena/join.rs",
    "crates/ndshare/src/arena/lasting_tests.rs",
    "crates/ndshare/src/arena/lockword.rs",
    "crates/ndshare/src/arena/look.rs",
    "crates/ndshare/src/arena/offered.rs",
    "crates/ndshare/src/arena/scribble.rs",
    "crates/ndshare/src/arena/tests.rs",
    "crates/ndshare/src/array/access.rs",
    "crates/ndshare/src/array/item.rs",
    "crates/ndshare/src/array/tests.rs",
    "crates/ndshare/src/fft/",
    "crates/ndshare/src/gather/arrays.rs",
    "crates/ndshare/src/gather/canvas.rs",
    "crates/ndshare/src/gather/copies.rs",
    "crates/ndshare/src/gather/execute.rs",
    "crates/ndshare/src/gather/small.rs",
    "crates/ndshare/src/gather/tests.rs",
    "crates/ndshare/src/kernel/",
    "crates/ndshare/src/malloc.rs",
    "crates/ndshare/src/names/office.rs",
    "crates/ndshare/src/pool.rs",
    "crates/ndshare-c/src/",
    "crates/ndshare-py/src/allocating.rs",
    "crates/ndshare-py/src/cache/value.rs",
    "crates/ndshare-py/src/described.rs",
    "crates/ndshare-py/src/dtype.rs",
    "crates/ndshare-py/src/fft/",
    "crates/ndshare-py/src/frame.rs",
    "crates/ndshare-py/src/gather/",
    "crates/ndshare-py/src/make.rs",
    "crates/ndshare-py/src/ndarray.rs",
    "crates/ndshare-py/src/objects.rs",
    "crates/ndshare-py/src/offered.rs",
    "crates/ndshare-py/src/overlay.rs",
    "crates/ndshare-py/src/owner.rs",
    "crates/ndshare-py/src/parent.rs",
    "crates/ndshare-py/src/shape.rs",
    "crates/ndshare-py/src/shared.rs",
    "crates/ndshare-py/src/travel.rs",
    "crates/ndshare-py/src/variables.rs",
    "crates/ndshare-zenoh/src/payload.rs",
)

# The one door to each thing, and what passes through it.
DOORS = [
    ("libc", re.compile(r"\blibc::|\buse libc\b|\bextern crate libc\b"), ("crates/ndshare/src/os/",)),
    (
        "atomics",
        re.compile(r"\b(?:std|core)::sync::atomic\b"),
        ("crates/ndshare/src/prim.rs", "crates/ndshare-py/"),
    ),
    ("PyO3", re.compile(r"\b(?:pyo3|numpy)::"), ("crates/ndshare-py/", "crates/ndshare-zenoh/")),
    (
        "a lock beside Python",
        re.compile(r"\b(?:Mutex|RwLock|Condvar|Barrier|(?:Py)?OnceLock|GILOnceCell|LazyLock|SpinLock)\b"),
        (
            "crates/ndshare/",
            "crates/ndshare-c/src/handle.rs",
            "crates/ndshare-cli/",
            "crates/ndshare-py/src/guard.rs",
            "crates/ndshare-zenoh/src/kept.rs",
        ),
    ),
    (
        "a way into Python that looks at no lock",
        re.compile(r"\bPython::(?:try_)?attach\b|\bwith_gil\b"),
        ("crates/ndshare-py/src/guard.rs", "crates/ndshare-zenoh/src/kept.rs"),
    ),
]

# Where every number that a peer may have written is checked before it is one, and every loop says what bounds it.
WARY = (
    "crates/ndshare/src/arena/",
    "crates/ndshare/src/cache/",
    "crates/ndshare/src/lock.rs",
    "crates/ndshare/src/overlay/",
    "crates/ndshare/src/registry.rs",
    "crates/ndshare/src/ring/",
    "crates/ndshare/src/array/",
)
# The modules among them that own the shared words: they read them, and give out what is checked.
TABLES = (
    "crates/ndshare/src/arena/control.rs",
    "crates/ndshare/src/arena/lockword.rs",
    "crates/ndshare/src/arena/word.rs",
)
# Tests scribble themselves.
SCRIBBLERS = (
    "crates/ndshare/src/arena/lasting_tests.rs",
    "crates/ndshare/src/arena/scribble.rs",
    "crates/ndshare/src/arena/tests.rs",
    "crates/ndshare/src/cache/tests.rs",
    "crates/ndshare/src/ring/scribble.rs",
    "crates/ndshare/src/ring/tests.rs",
)
# Each of these goes round until something ends it; an update of an atomic until nobody else has changed the word.
LOOP = re.compile(r"\bloop \{|\bwhile\b|\.(?:fetch|try)_update\(")
# Words of this process alone.
PRIVATE_WORD = re.compile(r"\b(?:\w+\.)?(?:slot|pid|swept_ms|(?:owners|alive)\[[^\]]*\])\s*$")
COMPARED = re.compile(r"\s*(?:& \w+\s*)?(?:==|!=|<=|>=|<(?!<)|>(?!>))")

# What a newcomer's machine does not have: hosts of registries, and folders of one machine.
FOREIGN = [
    ("a registry's host", re.compile(r"\b(?:pypi\.org|pythonhosted\.org|crates\.io|conda\.anaconda\.org)\b")),
    ("a folder of one machine", re.compile(r"(?<![\w.~-])/(?:home|root|Users|work|opt)/[\w.]")),
]
# Cargo writes the name of its registry into its lock file.
CARGO_SOURCE = re.compile(r'^source = "registry\+.*"$', re.MULTILINE)

TOKEN = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*.*?\*/)
    | (?P<raw>b?r(?P<hashes>\#*)".*?"(?P=hashes))
    | (?P<string>b?"(?:\\.|[^"\\])*")
    | (?P<char>b?'(?:\\[^\n]{1,10}?|[^'\\\n])')
    """,
    re.VERBOSE | re.DOTALL,
)


def code_of(text: str) -> str:
    """Return Rust source with comments and strings blanked; every other character stays in its place."""
    return TOKEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def line_of(text: str, position: int) -> int:
    """Return the number of the line, from 1, that holds a position."""
    return text.count("\n", 0, position) + 1


# Floors


def module_path(path: str) -> list[str]:
    """Return the module path of a file below src: ``os/mod.rs`` is os, ``os/kill.rs`` is os, kill."""
    parts = list(Path(path).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "mod" else parts


def reexports(lib: str) -> dict[str, str]:
    """Return the module behind each name that ``lib.rs`` offers at the root of the crate."""
    owners: dict[str, str] = {}
    for path, names in re.findall(r"\bpub(?:\(crate\))? use (\w+)::([^;]*);", code_of(lib)):
        owners.update(dict.fromkeys(re.findall(r"\w+", names), path))
    return owners


def brace_end(code: str, start: int) -> int:
    """Return the position after the brace that closes the one at ``start``."""
    depth = 0
    for position in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[position], 0)
        if depth == 0:
            return position + 1
    return len(code)


def top_names(group: str) -> list[str]:
    """Return the first name of each path in the braces of a use: ``a, b::{c, d}`` gives a, b."""
    flat = re.sub(r"\s+", "", group)
    while "{" in flat:
        flat, again = re.subn(r"(?:::)?\{[^{}]*\}", "", flat)
        if not again:
            break
    return [name.split("::")[0] for name in flat.split(",") if name]


def inline_depth(code: str, position: int) -> int:
    """Return how many ``mod x { … }`` of this file enclose a position."""
    blocks = [match.end() - 1 for match in re.finditer(r"\bmod \$?\w+ \{", code[:position])]
    return sum(brace_end(code, start) > position for start in blocks)


def root_names(path: str, code: str) -> Iterator[tuple[int, str]]:
    """Yield position and name of each thing that a file names by way of the root of the crate."""
    depth = len(module_path(path))
    for match in re.finditer(r"\b(?:(crate)|super((?:::super)*))::", code):
        climbs = 1 + (match.group(2) or "").count("super")
        if not match.group(1) and climbs != depth + inline_depth(code, match.start()):
            continue
        if code[match.end()] == "{":
            group = code[match.end() + 1 : brace_end(code, match.end()) - 1]
            yield from ((match.start(), name) for name in top_names(group))
        elif name := re.match(r"\w+", code[match.end() :]):
            yield match.start(), name.group()


def floor_complaints(path: str, text: str, owners: dict[str, str]) -> list[str]:
    """Return the places where a file of the library names a module that is not below its own."""
    code, own = code_of(text), module_path(path)[0]
    if own not in FLOOR_OF:
        return [f"{path}: the module {own} stands on no floor; give it one in tests/test_tidy.py"]
    complaints: list[str] = []
    for position, name in root_names(path, code):
        module = owners.get(name, name)
        if module != own and FLOOR_OF.get(module, len(FLOORS)) >= FLOOR_OF[own]:
            complaints.append(f"{path}:{line_of(text, position)}: {own} may not name {module}")
    return complaints


# Circles


class Tree:
    """The module tree of a crate: which file each module is, and which of its names come from another file."""

    def __init__(self, files: dict[str, str]) -> None:
        code = {path: without_tests(code_of(text)) for path, text in files.items()}
        tests = {path for path, text in files.items() for path in files_of_tests(path, code_of(text))}
        self.code = {path: text for path, text in code.items() if not is_below(path, tests)}
        self.files = {tuple(module_path(path)) if path != "lib.rs" else (): path for path in self.code}
        self.exports = {path: dict(self.exported(path)) for path in self.code}

    def uses(self, path: str) -> Iterator[tuple[int, bool, list[str]]]:
        """Yield position, whether it is a re-export, and each path of the ``use`` lines of a file."""
        for match in re.finditer(r"\b(pub(?:\([^)]*\))? )?use ([^;]*);", self.code[path]):
            for names in use_paths(match.group(2)):
                yield match.start(), match.group(1) is not None, names

    def exported(self, path: str) -> Iterator[tuple[str, list[str]]]:
        """Yield each name that a file re-exports from a file below it, inline modules too, and the path behind it."""
        for position, is_export, names in self.uses(path):
            depth = inline_depth(self.code[path], position)
            if is_export and names[:depth] == ["super"] * depth:
                yield names[-1].split(" as ")[-1], [name.split(" as ")[0] for name in names[depth:]]

    def paths(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Yield position and parts of each path by which a file may name another, re-exports of it left out."""
        code = self.code[path]
        for position, is_export, names in self.uses(path):
            if not is_export:
                yield position, [name.split(" as ")[0] for name in names]
        blank = re.sub(r"\b(?:pub(?:\([^)]*\))? )?use [^;]*;|\bpub\(in [^)]*\)", blanked, code)
        for match in re.finditer(r"(?<![\w:$])\w+(?:::\w+)+", blank):
            yield match.start(), match.group().split("::")

    def named(self, path: str) -> Iterator[tuple[int, str]]:
        """Yield position and path of each file that a file names."""
        for position, names in self.paths(path):
            file = self.file_of(path, names, inline_depth(self.code[path], position))
            if file and file != path:
                yield position, file

    def file_of(self, path: str, names: list[str], depth: int = 0, hops: int = 0) -> str | None:
        """Return the file that a path inside a file leads to, if it is one of the crate's."""
        module = module_of(path)
        if names[0] == "crate":
            depth, module, names = 0, (), names[1:]
        elif names[0] in ("self", "super"):
            while names and names[0] in ("self", "super"):
                climbs = names[0] == "super"
                depth, module = (depth - climbs, module) if depth else (0, module[:-1] if climbs else module)
                names = names[1:]
        elif (*module, names[0]) not in self.files:
            return None
        return None if depth else self.walk(module, names, hops)

    def walk(self, module: tuple[str, ...], names: list[str], hops: int) -> str | None:
        """Return the file that a path leads to from a module on: through modules below it, and re-exports."""
        while names and (*module, names[0]) in self.files:
            module, names = (*module, names[0]), names[1:]
        file = self.files.get(module)
        if file is None or not names or hops > 8:
            return file
        behind = self.exports[file].get(names[0]) or self.behind_a_glob(file, names[0])
        return (self.file_of(file, [*behind, *names[1:]], 0, hops + 1) if behind else None) or file

    def behind_a_glob(self, file: str, name: str) -> list[str] | None:
        """Return the path behind a name that a file re-exports with all others of another file."""
        for _, is_export, names in self.uses(file):
            source = self.file_of(file, names[:-1]) if is_export and names[-1] == "*" else None
            if source and re.search(rf"\bpub\b[^;{{=]*\b{name}\b", self.code[source]):
                return [*names[:-1], name]
        return None


def module_of(path: str) -> tuple[str, ...]:
    """Return the module that a file is; ``lib.rs`` is the root of the crate."""
    return () if path == "lib.rs" else tuple(module_path(path))


def blanked(match: re.Match[str]) -> str:
    """Return the text of a match with all but its line ends blanked."""
    return re.sub(r"[^\n]", " ", match.group())


def items_of_tests(code: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each item that is there only in tests."""
    for match in re.finditer(r"#\[cfg\((?:all\()?test\b[^\]]*\]", code):
        semicolon, brace = code.find(";", match.end()), code.find("{", match.end())
        ends_at_brace = brace >= 0 and (semicolon < 0 or brace < semicolon)
        yield match.start(), brace_end(code, brace) if ends_at_brace else semicolon + 1


def without_tests(code: str) -> str:
    """Return code with all that is there only in tests blanked."""
    for start, end in items_of_tests(code):
        code = code[:start] + re.sub(r"[^\n]", " ", code[start:end]) + code[end:]
    return code


def files_of_tests(path: str, code: str) -> Iterator[str]:
    """Yield the modules, as paths without an ending, that a file declares for tests alone."""
    for start, end in items_of_tests(code):
        if match := re.search(r"\bmod (\w+);", code[start:end]):
            yield "/".join((*module_of(path), match.group(1)))


def is_below(path: str, modules: set[str]) -> bool:
    """Return whether a file is one of some modules, or lies in one."""
    parts = module_of(path)
    return any("/".join(parts[:length]) in modules for length in range(1, len(parts) + 1))


def use_paths(tree: str) -> Iterator[list[str]]:
    """Yield each path of a ``use``: ``a::{b, c::{self, d}}`` gives a b, a c, a c d."""
    tree = re.sub(r"\s+", " ", tree).strip()
    brace = tree.find("{")
    if brace < 0:
        names = [name.strip() for name in tree.split("::")]
        yield names[:-1] if names[-1] == "self" and len(names) > 1 else names
        return
    front = [name for name in tree[:brace].split("::") if name.strip()]
    for branch in branches(tree[brace + 1 : brace_end(tree, brace) - 1]):
        yield from ([*front, *names] if names != ["self"] else front for names in use_paths(branch))


def branches(group: str) -> Iterator[str]:
    """Yield what the commas of a group separate, commas in inner braces left alone."""
    depth, start = 0, 0
    for position, character in enumerate(group + ","):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if branch := group[start:position].strip():
                yield branch
            start = position + 1


def circles(files: dict[str, str]) -> list[dict[str, list[str]]]:
    """Return each largest set of files that name each other, directly or by way of others, with where they do so."""
    tree = Tree(files)
    named = {path: list(tree.named(path)) for path in tree.code}
    reached = {path: reach_of(path, named) for path in named}
    found: list[dict[str, list[str]]] = []
    for path in sorted(named):
        ring = {other for other in reached[path] if path in reached[other]}
        if path == min(ring, default=""):
            found.append(
                {
                    file: [
                        f"{file}:{line_of(tree.code[file], position)} names {other}"
                        for position, other in named[file]
                        if other in ring
                    ]
                    for file in sorted(ring)
                }
            )
    return found


def reach_of(path: str, named: dict[str, list[tuple[int, str]]]) -> set[str]:
    """Return the files that a file names, and those that they name, and so on."""
    reached: set[str] = set()
    ahead = [path]
    while ahead:
        ahead = [other for file in ahead for _, other in named[file] if other not in reached]
        reached.update(ahead)
    return reached


def circle_complaints(files: dict[str, str], folder: str = "", known: tuple[tuple[str, ...], ...] = ()) -> list[str]:
    """Return the places where files of a crate, which lie in a folder, name each other in a circle."""
    return [
        place
        for circle in circles(files)
        if not any(all(f"{folder}{file}".startswith(rooms) for file in circle) for rooms in known)
        for places in circle.values()
        for place in places
    ]


# Unsafe code and doors


def is_explained(lines: list[str], index: int, word: str = "SAFETY:") -> bool:
    """Return whether the statement on a line carries a ``// SAFETY:`` comment, on it or right above it."""
    if word in lines[index]:
        return True
    for above in range(index - 1, -1, -1):
        line = lines[above].strip()
        if line.startswith("//"):
            if word in line:
                return True
        elif not line or (line.endswith((";", "{", "}", "},")) and not line.startswith("#[")):
            return False
    return False


def unsafe_complaints(path: str, text: str) -> list[str]:
    """Return the places where unsafe code stands in the wrong room or says not why it is sound."""
    lines, complaints = text.splitlines(), list[str]()
    for number, line in enumerate(code_of(text).splitlines()):
        if not re.search(r"\bunsafe\b", line):
            continue
        if not path.startswith(UNSAFE_ROOMS):
            complaints.append(f"{path}:{number + 1}: unsafe code outside of its rooms")
        elif re.search(r"\bunsafe (?:\{|impl\b)", line) and not is_explained(lines, number):
            complaints.append(f"{path}:{number + 1}: unsafe code without a SAFETY comment")
    return complaints


# Words of a peer


def shipped(text: str) -> str:
    """Return a file of Rust without the modules of tests at its end. Those in files of their own are merely named."""
    return re.split(r"^#\[cfg\((?:all\()?test\b.*\]\n(?:#.*\n)*mod \w+ \{", text, maxsplit=1, flags=re.MULTILINE)[0]


def round_end(code: str, start: int) -> int:
    """Return the position after the parenthesis that closes the one at ``start``."""
    depth = 0
    for position in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        if depth == 0:
            return position + 1
    return len(code)


def bare_reads(code: str) -> Iterator[int]:
    """Yield the position of each load of a shared word whose number is used as it is."""
    for match in re.finditer(r"\.load\((?!\))", code):
        is_compared = COMPARED.match(code, round_end(code, match.end() - 1))
        if not is_compared and not PRIVATE_WORD.search(code[: match.start()]):
            yield match.start()


def wary_complaints(path: str, text: str) -> list[str]:
    """Return the places where a number of a peer's is trusted, or a loop does not say what bounds it.

    A load must be compared at once, or go through ``prim::read`` or the tables; one that is neither says in a
    ``// RAW:`` comment why it need not. A loop, and an update that goes round until it is undisturbed, says in a
    ``// BOUND:`` comment why it ends.
    """
    if not path.startswith(WARY) or path.startswith(SCRIBBLERS):
        return []
    text = shipped(text)
    lines, code = text.splitlines(), code_of(text)
    complaints: list[str] = []

    def complain(position: int, what: str, word: str | None = None) -> None:
        number = line_of(code, position)
        if word is None or not is_explained(lines, number - 1, word):
            complaints.append(f"{path}:{number}: {what}")

    for match in LOOP.finditer(code):
        complain(match.start(), "a loop without a BOUND comment", "BOUND:")
    if not path.startswith(TABLES):
        for position in bare_reads(code):
            complain(position, "a bare number of a peer's: read it by prim::read or the tables", "RAW:")
        for match in re.finditer(r"\.(?:fetch_sub|span)\(", code):
            complain(match.start(), "what only the tables may do: checked_span, lower")
    return complaints


def door_complaints(path: str, text: str) -> list[str]:
    """Return the places where something comes in by another way than its door."""
    code = code_of(text)
    return [
        f"{path}:{line_of(code, match.start())}: {thing} outside of {', '.join(rooms)}"
        for thing, pattern, rooms in DOORS
        if not path.startswith(rooms)
        for match in pattern.finditer(code)
    ]


def dependency_complaints(path: str, manifest: str) -> list[str]:
    """Return the dependencies that the manifest of a crate must not have."""
    forbidden = {"crates/ndshare-py": {"libc"}, "crates/ndshare-cli": {"libc", "pyo3", "numpy"}}
    forbidden["crates/ndshare-c"] = forbidden["crates/ndshare-cli"]
    forbidden["crates/ndshare"] = {"pyo3", "numpy"}
    forbidden["crates/ndshare-zenoh"] = {"libc", "ndshare"}
    names = set(re.findall(r"^([\w-]+)(?:\.workspace)?\s*=", manifest, re.MULTILINE))
    wrong = sorted(names & forbidden[str(Path(path).parent)])
    return [f"{path}: may not depend on {name}" for name in wrong]


# The repository


def foreign_complaints(path: str, text: str) -> list[str]:
    """Return the places where a file names what only one machine has."""
    if path.endswith("Cargo.lock"):
        text = CARGO_SOURCE.sub("", text)
    return [
        f"{path}:{line_of(text, match.start())}: {what}: {match.group()}"
        for what, pattern in FOREIGN
        for match in pattern.finditer(text)
    ]


def repository_files() -> list[str]:
    """Return the paths of all files that are, or would be, in the repository."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        return [path for path in listing.stdout.splitlines() if (ROOT / path).is_file()]
    return unpacked_files()


def unpacked_files() -> list[str]:
    """Return the same from a folder without git, such as an unpacked archive."""
    skipped = {".git", ".venv", "target", "demo-out", "bench-out", "__pycache__"}
    found: list[str] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped and not name.endswith("_cache")]
        found += [str((Path(folder) / name).relative_to(ROOT)) for name in names if not name.endswith(".so")]
    return found


def rust_files() -> list[str]:
    return [path for path in repository_files() if path.startswith("crates/") and path.endswith(".rs")]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


# The rules hold


def test_modules_name_only_lower_floors() -> None:
    owners = reexports((LIBRARY / "lib.rs").read_text())
    complaints: list[str] = []
    for file in sorted(LIBRARY.rglob("*.rs")):
        path = str(file.relative_to(LIBRARY))
        if path != "lib.rs":
            complaints += floor_complaints(path, file.read_text(), owners)
    assert complaints == []


def crate_files(folder: str) -> dict[str, str]:
    """Return the text of each file below a folder, by its path in it."""
    return {path.removeprefix(folder): read(path) for path in rust_files() if path.startswith(folder)}


@pytest.mark.parametrize("folder", CRATE_FOLDERS)
def test_no_files_name_each_other_in_a_circle(folder: str) -> None:
    assert circle_complaints(crate_files(folder), folder, KNOWN_CIRCLES) == []


def test_every_known_circle_is_still_there() -> None:
    found = [
        [f"{folder}{file}" for file in circle] for folder in CRATE_FOLDERS for circle in circles(crate_files(folder))
    ]
    mended = [
        known for known in KNOWN_CIRCLES if not any(all(file.startswith(known) for file in circle) for circle in found)
    ]
    assert mended == []


def test_unsafe_code_keeps_to_its_rooms_and_explains_itself() -> None:
    assert [complaint for path in rust_files() for complaint in unsafe_complaints(path, read(path))] == []


def test_every_room_for_unsafe_code_is_used() -> None:
    used = [path for path in rust_files() if re.search(r"\bunsafe\b", code_of(read(path)))]
    assert [room for room in UNSAFE_ROOMS if not any(path.startswith(room) for path in used)] == []


def test_no_number_of_a_peer_is_trusted() -> None:
    assert [complaint for path in rust_files() for complaint in wary_complaints(path, read(path))] == []


def test_everything_comes_in_by_its_door() -> None:
    assert [complaint for path in rust_files() for complaint in door_complaints(path, read(path))] == []


def test_crates_depend_only_on_what_they_may() -> None:
    manifests = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("crates/*/Cargo.toml"))
    assert [complaint for path in manifests for complaint in dependency_complaints(path, read(path))] == []


def test_the_repository_names_nothing_of_one_machine() -> None:
    complaints = [complaint for path in repository_files() for complaint in foreign_complaints(path, read(path))]
    assert complaints == []


# The rules can fail


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("arena/mod.rs", "use crate::array::Token;"),
        ("arena/sweep.rs", "use crate::{error::Error, array};"),
        ("os/kill.rs", "fn f() { crate::arena::sweep(); }"),
        ("layout.rs", "use super::arena::Arena;"),
        ("os/kill.rs", "use super::super::arena;"),
        ("os/kill.rs", "mod tests { use super::super::super::arena; }"),
        ("array.rs", "use crate::lock::Lock;"),
        ("ring.rs", "use crate::{layout::{a, b}, cache::Cache};"),
        ("ring/mod.rs", "use crate::overlay;"),
        ("error.rs", "use crate::Hold;"),
        ("novelty.rs", ""),
    ],
)
def test_a_name_from_the_wrong_floor_is_seen(path: str, text: str) -> None:
    assert len(floor_complaints(path, text, {"Hold": "arena"})) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("arena/mod.rs", "use crate::{error::Error, os};\nuse super::os;"),
        ("arena/mod.rs", "mod tests { use super::*; }"),
        ("os/kill.rs", "use super::limits;\nmod tests { use super::*; use super::super::file; }"),
        ("os/kill.rs", '// crate::arena\nconst A: &str = "crate::arena"; /* crate::cache */'),
        ("cache.rs", "use crate::{gather, array::Array, Error};"),
        ("arena/sweep.rs", "use crate::arena::Block;"),
        ("layout.rs", "fn f() -> crate::Result<char> { Ok('\"') }"),
    ],
)
def test_a_name_from_below_is_not(path: str, text: str) -> None:
    assert floor_complaints(path, text, {"Error": "error", "Result": "error"}) == []


# Each sample is a crate by its files; the first file and others name each other.
A_CIRCLE: list[dict[str, str]] = [
    {"a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"},
    {"a.rs": "fn f() { super::b::g() }", "b.rs": "fn g() { crate::a::f() }"},
    {"a/b.rs": "use super::c::C;", "a/c.rs": "use super::{b::{B, BB}, d};", "a/d.rs": "", "a/mod.rs": "mod b; mod c;"},
    {"a/b.rs": "use super::A;", "a/mod.rs": "mod b; use b::B; struct A;"},
    {"a/b.rs": "use super::A;", "a/mod.rs": "mod b; struct A; impl A { fn f() { b::g() } }"},
    {"a/b.rs": "use super::*;", "a/mod.rs": "mod b; fn f() { self::b::g() }"},
    {"a/b.rs": "fn f() -> super::A {}", "a/mod.rs": "pub use b::B; mod b; fn f() { b::g() }"},
    {
        "a/b.rs": "use super::C;",
        "a/c.rs": "use super::B; pub struct C;",
        "a/mod.rs": "mod b; mod c; pub use b::B; pub(crate) use c::*;",
    },
    {"a/b.rs": "use super::C;", "a/c.rs": "use super::d::D;", "a/d.rs": "use crate::B;", "lib.rs": "pub use a::B;"}
    | {"a/mod.rs": "pub mod b; mod c; mod d; pub use b::B; pub use c::C;"},
    {"a/b.rs": "use super::C;", "a/c.rs": "use super::b::D;"}
    | {"a/mod.rs": "mod b; mod c; mod internals { pub use super::c::{C, D}; }\npub(crate) use internals::*;"},
    {"a.rs": "mod inner { use super::super::b::B; }", "b.rs": "mod c { macro_rules! m { () => { crate::a::f() } } }"},
    {"lib.rs": "mod a; fn f() { a::g() }", "a.rs": "fn g() { crate::f() }"},
    {"a.rs": "use crate::{b::{self, B}};", "b.rs": "use crate::a as other;"},
]
NO_CIRCLE: list[dict[str, str]] = [
    {"a.rs": "use crate::b::B;", "b.rs": '// crate::a\nconst A: &str = "crate::a::A";'},
    {"a/mod.rs": "mod b; pub use b::{B, BB};", "a/b.rs": "use super::f;"},
    {"a/mod.rs": "mod b; pub(crate) use b::B; struct A;", "a/b.rs": "pub(in crate::a) struct B; use super::A;"},
    {"a/mod.rs": "mod b; mod c; pub use c::C; fn f() { b::g() }", "a/b.rs": "use super::C;", "a/c.rs": ""},
    {"a/b.rs": "use super::c;", "a/c.rs": "", "a/mod.rs": "mod b; mod c; fn f() { b::g(c::h()) }"},
    {"a.rs": "use crate::b::B;", "b.rs": "#[cfg(test)]\nmod tests { use crate::a::A; }"},
    {"a.rs": "use crate::b::B;", "b.rs": "#[cfg(all(test, not(loom)))]\nuse crate::a::A;\nfn f() {}"},
    {"a/b.rs": "", "a/mod.rs": "use b::B;\n#[cfg(test)]\nmod tests;", "a/tests.rs": "use super::b; use super::*;"}
    | {"a/b.rs": "#[cfg(test)]\nuse super::tests::T;"},
    {"a.rs": "mod b { use super::A; }\nfn f() { b::g() }"},
    {"a/b.rs": "macro_rules! m { ($n:ident) => { mod $n { use super::*; } } }", "a/mod.rs": "mod b; fn f() { b::g() }"},
    {"a.rs": "use ndshare::b::B;", "b.rs": "use super::a::A;"},
    {"a.rs": "use crate::b::B;", "b.rs": "use std::a::A;"},
]


@pytest.mark.parametrize("files", A_CIRCLE)
def test_a_circle_is_seen(files: dict[str, str]) -> None:
    found = circles(files)
    assert len(found) == 1
    assert next(iter(files)) in found[0]
    assert all(found[0].values())


@pytest.mark.parametrize("files", NO_CIRCLE)
def test_what_goes_one_way_is_no_circle(files: dict[str, str]) -> None:
    assert circles(files) == []


def test_a_known_circle_is_left_alone_and_says_where_it_is_otherwise() -> None:
    files = {"a/b.rs": "\nuse super::c;", "a/c.rs": "use super::b;"}
    assert circle_complaints(files) == ["a/b.rs:2 names a/c.rs", "a/c.rs:1 names a/b.rs"]
    assert circle_complaints(files, "x/", (("x/a/",),)) == []
    assert len(circle_complaints(files, "x/", (("x/a/b.rs",), ("x/a/c.rs",)))) == 2


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crates/ndshare/src/registry.rs", "// SAFETY: never.\nunsafe { f() }"),
        ("crates/ndshare-cli/src/main.rs", "unsafe fn f() {}"),
        ("crates/ndshare/src/os/mod.rs", "fn f() {\n    unsafe { g() }\n}"),
        ("crates/ndshare/src/os/mod.rs", "// SAFETY: once.\nunsafe { f() };\nunsafe { g() };"),
        ("crates/ndshare/src/os/mod.rs", "// A comment.\nunsafe impl Send for A {}"),
        ("crates/ndshare/src/os/mod.rs", "// SAFETY: far.\n\nlet a =\n    f(unsafe { g() });"),
    ],
)
def test_unsafe_code_in_the_wrong_place_is_seen(path: str, text: str) -> None:
    assert len(unsafe_complaints(path, text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crates/ndshare/src/registry.rs", '// unsafe\nconst A: &str = "unsafe";'),
        ("crates/ndshare/src/os/mod.rs", "// SAFETY: it is ours,\n// and lives.\nunsafe { f() }"),
        ("crates/ndshare/src/os/mod.rs", "// SAFETY: it is ours.\nlet a = f(\n    unsafe { g() },\n);"),
        ("crates/ndshare/src/os/mod.rs", "// SAFETY: no pointers.\n#[cfg(a)]\nunsafe impl Send for A {}"),
    ],
)
def test_unsafe_code_that_is_explained_is_not(path: str, text: str) -> None:
    assert unsafe_complaints(path, text) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("arena/alloc.rs", "for i in 0..head.ready.load(Acquire) { f(i) }"),
        ("arena/spans.rs", "let next = block.list_after.load(Relaxed);"),
        ("arena/records.rs", "let index = record.block.load(Relaxed) as usize;"),
        ("arena/records.rs", "if a == 0 { f(record.block.load(Relaxed)) }"),
        ("overlay/turns.rs", "let a = self.head.word(USE)?.load(Acquire);"),
        ("arena/stats.rs", "let bytes = block.span().len_bytes();"),
        ("arena/spans.rs", "self.head.used.fetch_sub(granules, Relaxed);"),
        ("arena/spans.rs", "while index != NONE {\n}"),
        ("arena/control.rs", "fn f() {\n    loop {\n    }\n}"),
        ("ring/frame.rs", "let _ = words.held.fetch_update(Relaxed, Relaxed, |held| held.checked_sub(1));"),
        ("arena/records.rs", "// A word.\nif word.try_update(SeqCst, SeqCst, f).is_err() {"),
        ("arena/lock.rs", "// BOUND: far.\n\nf();\nloop {\n}"),
        ("ring/mod.rs", "#[cfg(test)]\nmod tests;\n\nlet a = word.load(SeqCst);"),
        ("ring/mod.rs", "let a = word.load(SeqCst) << 3;"),
    ],
)
def test_a_trusted_number_is_seen(path: str, text: str) -> None:
    assert len(wary_complaints(f"crates/ndshare/src/{path}", text)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("arena/alloc.rs", "if block.is_parent.load(SeqCst) != 0 { f() }"),
        ("arena/records.rs", "let same = tenant.generation.load(Relaxed) & 0xffff == generation;"),
        ("arena/records.rs", "let state = block.words().load().state;"),
        ("arena/mod.rs", "let slot = self.slot.load(Relaxed);\nself.owners[hold.index()].load(Relaxed);"),
        ("arena/alloc.rs", "let ready = read_u32(&head.ready, Acquire).capped(most);"),
        ("registry.rs", "// RAW: a name, which is looked up.\nlet seen = entry[0].load(Acquire);"),
        ("arena/control.rs", "block.span.load(Relaxed);\nblock.span();"),
        ("arena/spans.rs", "// BOUND: the table.\nwhile index != NONE {\n}"),
        ("ring/frame.rs", "// BOUND: the threads.\nlet _ = word.fetch_update(SeqCst, SeqCst, f);"),
        ("arena/lock.rs", "f();\n#[cfg(test)]\nmod tests { loop { word.load(Relaxed); } }"),
        ("arena/tests.rs", "let a = block.span.load(Relaxed);"),
        ("pool.rs", "loop { self.head.load(Relaxed); }"),
    ],
)
def test_a_checked_number_is_not(path: str, text: str) -> None:
    assert wary_complaints(f"crates/ndshare/src/{path}", text) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crates/ndshare/src/arena/mod.rs", "let a = libc::getpid();"),
        ("crates/ndshare-py/src/lib.rs", "use libc;"),
        ("crates/ndshare/src/arena/mod.rs", "use std::sync::atomic::AtomicU32;"),
        ("crates/ndshare/src/registry.rs", "use pyo3::prelude::*;"),
        ("crates/ndshare-cli/src/main.rs", "use numpy::PyArray1;"),
        ("crates/ndshare-py/src/ring.rs", "seen: std::sync::Mutex<Option<Seen>>,"),
        ("crates/ndshare-py/src/ring.rs", "use std::sync::{Arc, RwLock};"),
        ("crates/ndshare-py/src/cache/mod.rs", "use pyo3::sync::PyOnceLock;"),
        ("crates/ndshare-py/src/cache/mod.rs", "static A: OnceLock<u8> = f();"),
        ("crates/ndshare-py/src/frame.rs", "use ndshare::prim::SpinLock;"),
        ("crates/ndshare-py/src/owner.rs", "Python::try_attach(|py| f(py));"),
        ("crates/ndshare-c/src/ring.rs", "static A: std::sync::Mutex<u8>;"),
    ],
)
def test_another_way_in_is_seen(path: str, text: str) -> None:
    assert len(door_complaints(path, text)) == 1


def test_what_comes_in_by_its_door_is_not() -> None:
    assert door_complaints("crates/ndshare-py/src/guard.rs", "use ndshare::prim::SpinLock;") == []
    assert door_complaints("crates/ndshare-py/src/ring.rs", "use crate::guard::{Guarded, Once};") == []
    assert door_complaints("crates/ndshare/src/os/mod.rs", "use libc;\n// std::sync::atomic\nlibc::getpid()") == []


@pytest.mark.parametrize(
    ("crate", "line"),
    [
        ("ndshare", "pyo3.workspace = true"),
        ("ndshare", 'numpy = "0.30"'),
        ("ndshare-py", "libc.workspace = true"),
        ("ndshare-cli", 'libc = { version = "0.2" }'),
        ("ndshare-c", "libc.workspace = true"),
    ],
)
def test_a_wrong_dependency_is_seen(crate: str, line: str) -> None:
    manifest = f'[package]\nname = "{crate}"\n\n[dependencies]\n{line}\n'
    assert len(dependency_complaints(f"crates/{crate}/Cargo.toml", manifest)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "get it from https://" + "pypi" + ".org/simple",
        "index.crates" + ".io",
        "cd /" + "home/ada/ndshare",
        '"/' + 'root/.cargo"',
        "--find-links=/" + "opt/wheels",
    ],
)
def test_something_of_one_machine_is_seen(text: str) -> None:
    assert len(foreign_complaints("README.md", text)) == 1


@pytest.mark.parametrize("text", ["crates/ndshare", "/proc/self/fd", "/sys/fs/cgroup", "~/work/x", "a/home/b"])
def test_what_every_machine_has_is_not(text: str) -> None:
    assert foreign_complaints("README.md", text) == []


def test_a_lock_file_names_its_registry_only_as_a_source() -> None:
    host = "crates" + ".io"
    assert foreign_complaints("Cargo.lock", f'source = "registry+https://x/{host}-index"') == []
    assert len(foreign_complaints("Cargo.lock", f'name = "{host}"')) == 1
