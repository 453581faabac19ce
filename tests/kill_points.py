"""Every store to shared control memory carries a kill point: a lint over the sources of `crates/ndshare`.

What counts as a store: a call of a storing method of an atomic (`store`, `swap`, `compare_exchange`, `fetch_…`), of
`prim::set` or `prim::store_bytes`, and of one of the `LEAVES`, small functions of ours that leave their point to
their callers.

The rule: a kill point follows each store in its own function, in the store's block or in one around it, or in the
block that its success opens (`if word.compare_exchange(…).is_ok() { point(…); }`). Between two stores that publish,
that is whose ordering is not Relaxed, stands a point. Relaxed stores may stand together: what they write counts for
nobody until something publishes it, or is derived anew after a death under the lock.

What is left out, each with a reason that is written down: words that only one process sees (`PRIVATE`), and stores
under a comment `// NO POINT: why`, which holds for the stores from there to the end of its block. An entry of
`PRIVATE` or `LEAVES` that nothing needs is complained about. Bytes of arrays are no control memory.

`python tests/kill_points.py` prints what is missing, and `labelled N/N`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from test_tidy import LIBRARY, brace_end, code_of, files_of_tests, is_below, line_of, round_end, without_tests

# Files without a word of shared control memory, each with its reason.
OUTSIDE = {
    "fuzzing/": "what fuzzers call, on memory of one process",
    "fft/": "it moves the bytes of arrays, and its threads share what one process has",
    "kernel/": "it moves the bytes of arrays",
    "os/": "it knows no tables: its atomics are statics and places of one process",
    "array/item.rs": "it writes the items of arrays",
    "prim.rs": "the doors themselves, whose calls are looked at, and locks of one process",
    "dice.rs": "numbers for tests",
    "malloc.rs": "which allocator the threads of one process use",
    "models.rs": "models",
    "pool.rs": "threads of one process",
    "session.rs": "which session one process is in",
}

# Words of one process: file, the word as it is written there, and why nobody else sees it.
PRIVATE = {
    ("arena/backing.rs", "self.alive[slot as usize]"): "the signs of arenas on the heap, which are one process's",
    ("arena/backing.rs", "self.guests[slot as usize]"): "the signs of arenas on the heap, which are one process's",
    ("arena/fork.rs", "arena.is_kept"): "a field of `Arena`, one process's share",
    ("arena/fork.rs", "arena.pid"): "a field of `Arena`",
    ("arena/fork.rs", "arena.swept_ms"): "a field of `Arena`",
    ("arena/fork.rs", "arena.slot"): "a field of `Arena`",
    ("arena/join.rs", "self.slot"): "a field of `Arena`",
    ("arena/lock.rs", "self.owners[hold.block().index as usize]"): "which thread of this process has a block's lock",
    ("arena/records.rs", "self.nonces"): "a field of `Arena`: how many nonces this process has made",
    ("arena/sweep.rs", "self.slot"): "a field of `Arena`",
    ("arena/sweep.rs", "self.doubted_ms"): "a field of `Arena`",
    ("arena/sweep.rs", "self.doubts_since_ms"): "a field of `Arena`",
    ("arena/sweep.rs", "self.swept_ms"): "a field of `Arena`",
    ("gather/settings.rs", "STREAM_FROM"): "a static",
    ("names/mod.rs", "IS_WATCHED"): "a static",
    ("names/office.rs", "clerk.leaves"): "what one thread of this process tells another",
    ("names/office.rs", "IS_SEEN"): "a static",
    ("ring/descriptor.rs", "self.is_watched"): "a field of `Reader`, one process's object",
    ("ring/doze.rs", "self.is_deaf"): "a field of `Reader`",
    ("ring/offered.rs", "self.given"): "a field of an offered reader, which writes nothing that others see",
    ("ring/offered.rs", "self.cursor"): "a field of an offered reader",
    ("ring/offered.rs", "self.missed"): "a field of an offered reader",
    ("ring/reader.rs", "self.is_closing"): "a field of `Reader`",
    ("ring/selector.rs", "self.is_blind"): "a field of `Selector`, one process's object",
    ("ring/state.rs", "self.spin_ns"): "a field of `Ring`, one process's object",
    ("ring/wait.rs", "self.told"): "a field of `Reader`",
    ("ring/wait.rs", "self.told_of_made"): "a field of `Reader`",
    ("ring/wait.rs", "self.keen"): "a field of `Reader`",
    ("ring/writer.rs", "self.is_closed"): "a field of `Writer`, one process's object",
    ("ring/writers.rs", "self.entered"): "a field of `Ring`",
    ("ring/writers.rs", "self.own_writer"): "a field of `Ring`",
}

# Functions whose stores are labelled where they are called: file and name, and how a call of it looks.
LEAVES = {
    ("arena/control.rs", "format"): r"\bControl::format\(",
    ("arena/control.rs", "lower"): r"\.lower\(",
    ("arena/control.rs", "raise"): r"\.raise\(",
    ("arena/control.rs", "set_span"): r"\.set_span\(",
    ("arena/lock.rs", "inherit_lock"): r"\.inherit_lock\(",
    ("arena/lock.rs", "wait_for"): r"\.wait_for\(word,|\.wait_for\(&",
    ("arena/lock.rs", "sleep_for"): r"\.sleep_for\(word",
    ("arena/lockword.rs", "forgo"): r"\block\.forgo\(",
    ("arena/lockword.rs", "free"): r"(?:LockWord\(word\)|arena_word\(\))\.free\(",
    ("arena/lockword.rs", "free_of_the_dead"): r"\.free_of_the_dead\(",
    ("arena/lockword.rs", "inherit"): r"arena_word\(\)\.inherit\(",
    ("arena/lockword.rs", "take_fast"): r"\.take_fast\(",
    ("arena/lockword.rs", "take_now"): r"\.take_now\(",
    ("arena/lockword.rs", "take_once"): r"\.take_once\(",
    ("arena/lockword.rs", "take_or_mark"): r"\.take_or_mark\(",
    ("arena/records.rs", "write"): r"\.write\(record,",
    ("arena/spans.rs", "format"): r"\bSpans::new\(&control\)\.format\(",
    ("arena/spans.rs", "own"): r"\bself\.own\(index,",
    ("arena/word.rs", "bring_to_life"): r"\.bring_to_life\(",
    ("arena/word.rs", "bump"): r"\.bump\(",
    ("arena/word.rs", "claim"): r"\bself\.claim\(\|word\|",
    ("arena/word.rs", "claim_to_free"): r"\.claim_to_free\(",
    ("arena/word.rs", "claim_to_reuse"): r"\.claim_to_reuse\(",
    ("arena/word.rs", "clear_bit"): r"\.clear_bit\(",
    ("arena/word.rs", "exchange"): r"\.exchange\(",
    ("arena/word.rs", "inherit"): r"\bwords(?:\(\))?\.inherit\(",
    ("arena/word.rs", "set_bit"): r"\.set_bit\(",
    ("cache/entry.rs", "change"): r"\bself\.change\(",
    ("cache/policy.rs", "set_links"): r"\bSelf::set_links\(",
    ("cache/policy.rs", "stamp"): r"\bself\.stamp\(",
    ("cache/policy.rs", "forget_queues"): r"\.forget_queues\(",
    ("cache/protocol.rs", "change"): r"\bprotocol::change\(",
    ("cache/table.rs", "add"): r"(?<![\w.:])add\(",
    ("cache/table.rs", "subtract"): r"(?<![\w.:])subtract\(",
    ("ring/claim.rs", "end"): r"SlotClaim::end\(",
    ("ring/claim.rs", "replace"): r"\b(?:seen|mine)\.replace\(",
    ("ring/note.rs", "write_entry"): r"\.write_entry\(&entry",
    ("ring/note.rs", "write_note"): r"\.write_note\(",
    ("ring/protocol.rs", "advance"): r"(?<!fn )(?<!\.)\badvance\(",
    ("ring/protocol.rs", "announce"): r"\bprotocol::announce\(",
    ("ring/protocol.rs", "claim"): r"\bprotocol::claim\(",
    ("ring/protocol.rs", "end_claim"): r"\bprotocol::end_claim\(",
    ("ring/protocol.rs", "give_up"): r"\bprotocol::give_up\(",
    ("ring/protocol.rs", "mark"): r"\bprotocol::mark\(",
    ("ring/protocol.rs", "open_entry"): r"\bprotocol::open_entry\(",
    ("ring/protocol.rs", "open_frame"): r"\bprotocol::open_frame\(",
    ("ring/protocol.rs", "pass_done"): r"\bprotocol::pass_done\(",
    ("ring/protocol.rs", "pass_over"): r"\bprotocol::pass_over\(",
    ("ring/protocol.rs", "push_on"): r"\bprotocol::push_on\(",
    ("ring/protocol.rs", "seal_entry"): r"\bprotocol::seal_entry\(",
}

STORE = re.compile(
    r"\.(?:store|swap|compare_exchange(?:_weak)?|fetch_(?:add|sub|and|or|xor|max|min|update))\s*\("
    r"|(?<![\w.])(?:store_bytes|set)\("
)
POINT = re.compile(r"\bpoint\(")
PUBLISHES = re.compile(r"\b(?:SeqCst|AcqRel|Release|Acquire)\b")


@dataclass(frozen=True)
class Function:
    """A function: its file, its name, and where its body begins and ends."""

    path: str
    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Store:
    """A store: the function that it stands in, where it begins and ends, its word, and whether it publishes."""

    function: Function
    start: int
    end: int
    word: str
    publishes: bool


def functions(path: str, code: str) -> Iterator[Function]:
    """Yield each function that has a body."""
    for match in re.finditer(r"\bfn (\w+)", code):
        position, depth = match.end(), 0
        while position < len(code) and not (depth == 0 and code[position] in "{;"):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(code[position], 0)
            position += 1
        if code[position : position + 1] == "{":
            yield Function(path, match.group(1), position, brace_end(code, position))


def word_before(code: str, end: int) -> str:
    """Return the expression that a method is called of, without blanks: ``self.table.word(HEAD)``."""
    start, depth = end, 0
    while start > 0:
        before = code[start - 1]
        depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(before, 0)
        is_chained = before.isspace() and (code[start:end].lstrip().startswith(".") or start == end)
        if depth < 0 or (depth == 0 and not (before.isalnum() or before in "_.?:([" or is_chained)):
            break
        start -= 1
    return re.sub(r"\s+", " ", re.sub(r"\s*([.?])\s*", r"\1", code[start:end])).strip()


def depth_at(code: str, start: int, end: int) -> tuple[int, int]:
    """Return how deep in blocks ``end`` is, seen from ``start``, and how far up the way went."""
    depth = least = 0
    for letter in code[start:end]:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        least = min(least, depth)
    return depth, least


def opens_a_block(code: str, start: int, end: int) -> int | None:
    """Return where the block begins that the success of a store at ``start`` opens, if it stands in a condition."""
    head = max(code.rfind(letter, 0, start) for letter in ";{}")
    brace = code.find("{", end)
    is_condition = re.search(r"\b(?:if|while|match)\b", code[head + 1 : start])
    return brace if is_condition and brace >= 0 and ";" not in code[end:brace] else None


def has_point(code: str, store: Store) -> bool:
    """Return whether a kill point follows a store, as the rule says."""
    block = opens_a_block(code, store.start, store.end)
    block_end = brace_end(code, block) if block is not None else 0
    for match in POINT.finditer(code, store.end, store.function.end):
        depth, least = depth_at(code, store.end, match.start())
        if depth == least or match.start() < block_end:
            return True
    return False


def is_after_failure(code: str, store: Store, later: Store) -> bool:
    """Return whether a store comes only if an earlier one failed, and so stored nothing: ``if !take(word) { … }``."""
    block = opens_a_block(code, store.start, store.end)
    head = max(code.rfind(letter, 0, store.start) for letter in ";{}")
    return block is not None and "if !" in code[head : store.start] and later.start < brace_end(code, block)


def stores_together(code: str, stores: list[Store]) -> Iterator[Store]:
    """Yield each publishing store of a function after which another one comes before any point, on the same way."""
    publishing = [store for store in stores if store.publishes]
    for store, later in pairwise(publishing):
        between = code[store.end : later.start]
        if is_after_failure(code, store, later):
            continue
        if store.function == later.function and not re.search(r"\b(?:point\(|else\b|return\b|Err\()|=>", between):
            yield store


def unlabelled_parts(text: str, code: str) -> list[tuple[int, int]]:
    """Return start and end of what stands under a ``// NO POINT:`` comment: the rest of its block."""
    parts: list[tuple[int, int]] = []
    for match in re.finditer(r"// NO POINT: \S", text):
        end, depth = match.start(), 0
        while end < len(code) and depth >= 0:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        parts.append((match.start(), end))
    return parts


class Lint:
    """The stores of all files, and what is wrong with them."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = {path: text for path, text in files.items() if not path.startswith(tuple(OUTSIDE))}
        codes = {path: code_of(text) for path, text in self.files.items()}
        tests = {module for path, code in codes.items() for module in files_of_tests(path, code)}
        self.codes = {path: without_tests(code) for path, code in codes.items() if not is_below(path, tests)}
        self.functions = {path: list(functions(path, code)) for path, code in self.codes.items()}
        self.used: set[tuple[str, str]] = set()
        self.publishing: dict[tuple[str, str], bool] = {}
        self.stores = {path: list(self.stores_of(path)) for path in self.codes}
        self.labelled = self.total = self.explained = 0
        self.complaints = [line for path in sorted(self.codes) for line in self.complaints_of(path)]
        self.complaints += [
            f"{path}: nothing needs the entry {name}"
            for path, name in [*PRIVATE, *LEAVES]
            if (path, name) not in self.used
        ]

    def function_at(self, path: str, position: int) -> Function | None:
        around = [f for f in self.functions[path] if f.start < position < f.end]
        return max(around, key=lambda f: f.start, default=None)

    def stores_of(self, path: str) -> Iterator[Store]:
        """Yield the stores of a file in their order, without those to words of one process."""
        code, found = self.codes[path], dict[int, Store]()
        for pattern, publishes in [
            (STORE, None),
            *((re.compile(call), self.leaf_publishes(*leaf)) for leaf, call in LEAVES.items()),
        ]:
            for match in pattern.finditer(code):
                function = self.function_at(path, match.start())
                if function is None or code[: match.start()].endswith("fn "):
                    continue
                end = round_end(code, match.end() - 1)
                word = word_before(code, match.start()) if code[match.start()] == "." else match.group()[:-1]
                if (path, word) in PRIVATE:
                    self.used.add((path, word))
                    continue
                says = PUBLISHES.search(code[match.start() : end]) is not None
                found[match.start()] = Store(
                    function, match.start(), end, word, says if publishes is None else publishes
                )
        yield from (store for _, store in sorted(found.items()))

    def leaf_publishes(self, path: str, name: str) -> bool:
        """Return whether a function of the list publishes, itself or by another one of them."""
        if (path, name) not in self.publishing:
            self.publishing[path, name] = False  # while it is looked at
            self.publishing[path, name] = self._publishes(path, name)
        return self.publishing[path, name]

    def _publishes(self, path: str, name: str) -> bool:
        code = self.codes.get(path, "")
        bodies = [code[f.start : f.end] for f in self.functions.get(path, []) if f.name == name]
        for body in bodies:
            for match in STORE.finditer(body):
                if PUBLISHES.search(body[match.start() : round_end(body, match.end() - 1)]):
                    return True
        calls = [leaf for leaf, call in LEAVES.items() if any(re.search(call, body) for body in bodies)]
        return any(self.leaf_publishes(*leaf) for leaf in calls)

    def complaints_of(self, path: str) -> Iterator[str]:
        code, stores = self.codes[path], self.stores[path]
        parts, together = unlabelled_parts(self.files[path], code), set(stores_together(code, stores))
        for store in stores:
            leaf = (path, store.function.name)
            if leaf in LEAVES:
                self.used.add(leaf)
            elif any(start < store.start < end for start, end in parts):
                self.explained += 1
                continue
            self.total += 1
            what = None
            if leaf not in LEAVES and not has_point(code, store):
                what = "no kill point follows"
            elif leaf not in LEAVES and store in together:
                what = "no kill point before the next store"
            self.labelled += what is None
            if what:
                yield f"{path}:{line_of(code, store.start)}: {store.function.name}: {store.word}: {what}"


def lint() -> Lint:
    """Look at the sources of the library."""
    return Lint({str(path.relative_to(LIBRARY)): path.read_text() for path in sorted(LIBRARY.rglob("*.rs"))})


def main() -> int:
    """Print what is missing, and how many of the stores are labelled."""
    found = lint()
    print(*found.complaints, sep="\n", end="\n" if found.complaints else "")
    print(f"labelled {found.labelled}/{found.total}, and {found.explained} that say why they need no point")
    return 1 if found.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
