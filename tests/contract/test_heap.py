"""What glibc does with memory, in a process of its own: its settings cannot be undone."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAP_PROBE = """
import threading
from contract.heap import share_heap, trim_heap

def resident_mb():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * 4096 / 2**20

share_heap()
bytearray(24 << 20)  # so large a piece, freed, lets glibc take smaller ones from its heaps
before_mb = resident_mb()

def work():
    pieces = [bytearray(b"x" * (100 << 10)) for _ in range(300)]
    full_mb.append(resident_mb())

full_mb = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
trim_heap()
print(full_mb[0] - before_mb, resident_mb() - before_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_thread_freed_goes_back_to_the_system(repository_root: Path) -> None:
    """The end of a heap that is its own would stay: 29 of 29 MB."""
    finished = subprocess.run(
        [sys.executable, "-c", HEAP_PROBE],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    full_mb, kept_mb = map(float, finished.stdout.split())
    assert full_mb > 25  # otherwise it shows nothing
    assert kept_mb < 3
