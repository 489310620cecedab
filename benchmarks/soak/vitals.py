"""What the service's process holds, and how soon it answers that it lives."""

import http.client
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Vitals:
    """Of one moment: resident memory, threads, open files."""

    rss_mb: float
    threads: int
    files: int


def vitals_of(pid: int) -> Vitals:
    """Look at a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    values = {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads")}  # type: ignore[index]
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Vitals(values["VmRSS"] / 1024, values["Threads"], files)


class Pulse(threading.Thread):
    """Asks whether the service lives, twenty times a second, over one connection.

    Attributes:
        waits_ms: of each answer.
        failures: times that none came.
        peak_rss_mb: of the process meanwhile.
    """

    def __init__(self, address: tuple[str, int], pid: int) -> None:
        super().__init__(daemon=True)
        self._address, self._pid = address, pid
        self._ending = threading.Event()
        self.waits_ms: list[float] = []
        self.failures = 0
        self.peak_rss_mb = 0.0

    def run(self) -> None:
        """Ask until stopped."""
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        while not self._ending.wait(0.05):
            began_s = time.perf_counter()
            try:
                connection.request("GET", "/v2/health/live")
                lives = connection.getresponse()
                lives.read()
                self.failures += lives.status != http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                self.failures += 1
                connection.close()
            self.waits_ms.append(1e3 * (time.perf_counter() - began_s))
            self.peak_rss_mb = max(self.peak_rss_mb, vitals_of(self._pid).rss_mb)
        connection.close()

    def stop(self) -> None:
        """Ask no more."""
        self._ending.set()
        self.join()
