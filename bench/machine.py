"""What the figures were measured on: without that they mean nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import numpy as np

from bench.harness import cpus

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "SciPy",
    "ducc0",
    "mkl_fft",
    "mkl",
    "pyFFTW",
    "opencv-python-headless",
    "iceoryx2",
    "diskcache",
    "cachebox",
    "pyshmem",
    "SharedArray",
    "joblib",
    "pyzmq",
    "eclipse-zenoh",
    "ray",
]
# What `make bench` builds of Rust: the crate, its workspace, and what there is when it was built.
CRATES = {
    "zaft": ("rust_fft", "target/rust_fft/release/librust_fft_bench.so"),
    "oxifft": ("rust_fft", "target/rust_fft/release/librust_fft_bench.so"),
    "iceoryx2 (crate)": ("iceoryx2", "target/iceoryx2/release/iceoryx2-bench"),
}
ISA = [
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "erms",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "sve",
    "sve2",
]


class Cpu(TypedDict):
    """A kind of CPU, and how many of it."""

    model: str
    vendor: str
    family: int
    number: int
    stepping: int
    caches: dict[str, str]
    isa: list[str]
    cores: int
    used: int


class Machine(TypedDict):
    """A machine and its software; its name is nobody's business."""

    cpu: Cpu
    memory_bytes: int
    is_virtual: bool
    huge_pages: str
    kernel: str
    glibc: str
    python: str
    versions: dict[str, str]
    missing: list[str]
    load: float
    date: str
    commit: str


def facts() -> dict[str, str]:
    """Return the machine and its software, one line each."""
    return {
        "CPU": f"{_cpu()}, {len(cpus())} of {os.cpu_count()} in use",
        "memory": f"{memory() / 2**30:.1f} GiB",
        "huge pages": f"shmem {_choice('shmem_enabled')}, anonymous {_choice('enabled')}",
        "kernel": platform.release(),
        "glibc": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "ndshare": _ndshare(),
        "load": f"{os.getloadavg()[0]:.2f} before the run",
    }


def describe() -> Machine:
    """Return the same for programs, with the peers' versions, the date and the commit."""
    versions = {"NumPy": np.__version__, "ndshare": _ndshare(), **_peers()}
    return {
        "cpu": cpu(),
        "memory_bytes": memory(),
        "is_virtual": "hypervisor" in _field("flags").split(),
        "huge_pages": facts()["huge pages"],
        "kernel": platform.release(),
        "glibc": platform.libc_ver()[1],
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
        "missing": [name for name, version in versions.items() if not version],
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
    }


def cpu() -> Cpu:
    """Return what the kernel says about the CPU."""
    flags = set((_field("flags") or _field("Features")).split())
    return {
        "model": _cpu(),
        "vendor": _field("vendor_id") or platform.machine(),
        "family": int(_field("cpu family") or 0),
        "number": int(_field("model") or 0),
        "stepping": int(_field("stepping") or 0),
        "caches": _caches(),
        "isa": [name for name in ISA if name in flags],
        "cores": os.cpu_count() or 1,
        "used": len(cpus()),
    }


def slug(cpu: Cpu) -> str:
    """Return a file's name for a kind of CPU: its model's words, family and number.

    >>> slug({**cpu(), "model": "Intel(R) Xeon(R) Processor @ 2.1GHz", "family": 6, "number": 207})
    'intel-xeon-6-207'
    """
    words = re.sub(r"\((r|tm)\)|@.*|\b(processor|cpu|\d+-core)\b", " ", cpu["model"].lower())
    return "-".join([*re.findall(r"[a-z0-9]+", words), str(cpu["family"]), str(cpu["number"])])


def _cpu() -> str:
    return _field("model name") or platform.processor() or platform.machine()


def _field(name: str) -> str:
    """Return what /proc/cpuinfo says first of something, or nothing."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _caches() -> dict[str, str]:
    """Return the sizes of the first CPU's caches."""
    caches: dict[str, str] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        caches[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = size
    return caches


def memory() -> int:
    """Return the bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _choice(name: str) -> str:
    """Return which of its options a setting of transparent huge pages has chosen."""
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage", name).read_text()
    except OSError:
        return "unknown"
    return text[text.index("[") + 1 : text.index("]")]


def _ndshare() -> str:
    import ndshare

    return ndshare.__version__


def _peers() -> dict[str, str]:
    """Return the version of each peer, or nothing for one that is not there."""
    crates = {name: _crate(name.split()[0], *where) for name, where in CRATES.items()}
    return {**{name: _version(name) for name in PACKAGES}, **crates}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _crate(name: str, folder: str, built: str) -> str:
    """Return which version of a crate was locked, if it was built."""
    if not (ROOT / built).exists():
        return ""
    lock = tomllib.loads((ROOT / "bench" / folder / "Cargo.lock").read_text())
    return next(package["version"] for package in lock["package"] if package["name"] == name)


def _commit() -> str:
    """Return the commit that was measured, and whether files were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
