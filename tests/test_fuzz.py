"""The seeds of the fuzz target in Python go through it here; those of the targets in Rust do so in the tests there."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(seed: bytes, dice: random.Random) -> bytes:
    """Other bytes that are like these."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data))
        data[at : at + dice.randint(0, 2)] = dice.choice([b"", b"\0", b"\xff", dice.randbytes(1), dice.randbytes(8)])
        data = data or bytearray(1)
    return bytes(data)


def test_every_message_of_the_seeds_is_read_or_refused() -> None:
    message, dice = load("net_wire").message, random.Random(5)
    outcomes = set[bool]()
    for seed in sorted((FUZZ / "corpus" / "net_wire").iterdir()):
        outcomes.add(message(seed.read_bytes()))
        for _ in range(200):
            message(changed(seed.read_bytes(), dice))
    assert outcomes == {True, False}


def test_every_target_has_seeds_and_none_has_too_many() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import run; print(*run.targets())"],
        cwd=FUZZ,
        capture_output=True,
        text=True,
        check=True,
    )
    targets = found.stdout.split()
    assert sorted(targets) == sorted(path.name for path in (FUZZ / "corpus").iterdir())
    for target in targets:
        seeds = list((FUZZ / "corpus" / target).iterdir())
        assert 0 < len(seeds) <= 24
        assert sum(seed.stat().st_size for seed in seeds) < 16 << 10
