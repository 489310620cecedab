"""What a figure was measured on, told by class: no host names, no paths."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from contract.session import usable_cores

# Families as people name them, and the flag in /proc/cpuinfo that shows each.
CPU_FAMILIES = (
    ("AMX", "amx_tile"),
    ("AVX-512", "avx512f"),
    ("AVX2", "avx2"),
    ("VNNI", "avx512_vnni"),
    ("VNNI", "avx_vnni"),
    ("BF16", "avx512_bf16"),
)


def describe_machine() -> str:
    """Return e.g. ``2 cores x86_64 with AVX-512, VNNI``."""
    flags = _cpu_flags()
    families = list(dict.fromkeys(name for name, flag in CPU_FAMILIES if flag in flags))
    if "AVX-512" in families:
        families = [name for name in families if name != "AVX2"]
    with_what = f" with {', '.join(families)}" if families else ""
    cores = usable_cores()
    return f"{cores} core{'s' if cores > 1 else ''} {platform.machine()}{with_what}"


def describe_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return Python's version and those of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Feat"))), set())
