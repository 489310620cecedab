"""What there is to train on."""

import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """What the rules of ``plan`` look at.

    Attributes:
        cores: that this process may use.
        memory_bytes: of the machine or the container.
        gpu_memory_bytes: of the GPU that is trained on; None: there is none.
        bf16: whether bfloat16 is the faster arithmetic here.
    """

    cores: int
    memory_bytes: int
    gpu_memory_bytes: int | None
    bf16: bool

    def __post_init__(self) -> None:
        if self.cores < 1 or self.memory_bytes < 1:
            raise ValueError(
                f"a machine has at least one core and some memory, got {self.cores} cores and "
                f"{self.memory_bytes} bytes"
            )


def this_machine(*, use_gpu: bool = True) -> Machine:
    """Return what this process can use; ``use_gpu`` False leaves GPUs aside."""
    import torch  # takes seconds

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory_bytes()
    if use_gpu and torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        # From compute capability 8 on, tensor cores take bfloat16.
        return Machine(cores or 1, memory, int(facts.total_memory), bool(facts.major >= 8))
    return Machine(cores or 1, memory, None, _cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    # Without the instructions bfloat16 is emulated, and slower than float32.
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = CGROUP_LIMIT.read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
