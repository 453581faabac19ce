"""What the figures were measured on: without that they mean nothing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from bench.harness import cpus


def facts() -> dict[str, str]:
    """Return the machine and its software, one line each."""
    return {
        "CPU": f"{_cpu()}, {len(cpus())} of {os.cpu_count()} in use",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "huge pages": f"shmem {_choice('shmem_enabled')}, anonymous {_choice('enabled')}",
        "kernel": platform.release(),
        "glibc": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "ndshare": _version("ndshare"),
        "load": f"{os.getloadavg()[0]:.2f} before the run",
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _choice(name: str) -> str:
    """Return which of its options a setting of transparent huge pages has chosen."""
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage", name).read_text()
    except OSError:
        return "unknown"
    return text[text.index("[") + 1 : text.index("]")]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
