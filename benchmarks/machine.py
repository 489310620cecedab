"""What a figure was measured on, told by class: no host names, no paths."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

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
# Above this share of other load a ratio of two figures is worth little.
DISTURBED_SHARE = 0.05


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


class _Ticks(NamedTuple):
    busy: int
    all: int
    own: float


class OtherLoad:
    """Tells how much of the cores' time others took since it was made.

    Own time is that of this process, of its children that ended since, and of ``processes``.
    """

    def __init__(self, *processes: int) -> None:
        self._processes = processes
        self._before = self._ticks()

    def share(self) -> float:
        """Return others' share of all cores' time, 0 where the system does not tell."""
        before, after = self._before, self._ticks()
        if before is None or after is None or after.all <= before.all:
            return 0.0
        others = (after.busy - before.busy) - (after.own - before.own)
        return max(0.0, others / (after.all - before.all))

    def _ticks(self) -> _Ticks | None:
        try:
            first = Path("/proc/stat").read_text().splitlines()[0]
            stats = [Path(f"/proc/{pid}/stat").read_text() for pid in self._processes]
        except OSError:
            return None
        user, nice, system, idle, waiting, *rest = (int(ticks) for ticks in first.split()[1:9])
        busy = user + nice + system + sum(rest)
        # After the name, which may hold anything: fields 14 and 15 are user and system time.
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        theirs = sum(int(field[11]) + int(field[12]) for field in fields)
        own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
        return _Ticks(busy=busy, all=busy + idle + waiting, own=own + theirs)


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Feat"))), set())
