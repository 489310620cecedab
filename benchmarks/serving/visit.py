"""What is measured of one running server."""

import http.client
import json
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.load import request_bytes
from benchmarks.serving.servers import BenchFailed, Running

WARM_UP_S = 1.0
CROWD = 64
ABANDONED = 40
PROBES = 5
PROBE_EACH_S = 0.02
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Window:
    """Answers of a stretch of time.

    Attributes:
        answers_per_s: with status 200.
        latencies_ms: of each.
        failures: other statuses.
    """

    answers_per_s: float
    latencies_ms: tuple[float, ...]
    failures: tuple[int, ...] = ()

    def quantile_ms(self, share: float) -> float:
        """Return the latency that this share of the answers stayed within."""
        return float(np.quantile(self.latencies_ms, share))


def window(running: Running, png: bytes, work: Path, *, clients: int, seconds: float) -> Window:
    """Let a load process post for a while.

    Raises:
        BenchFailed: nothing was answered.
    """
    with _loading(running, png, work, clients=clients, seconds=seconds) as load:
        counted = json.loads(load.communicate()[0])
    if not counted["latencies_ms"]:
        raise BenchFailed(f"{running.server.name} answered nothing in {seconds:g} s")
    return Window(
        counted["answers_per_s"], tuple(counted["latencies_ms"]), tuple(counted["failures"])
    )


def health_ms(running: Running, png: bytes, work: Path, *, seconds: float) -> tuple[float, ...]:
    """Return how long the health address took, again and again, while 64 clients post."""
    took_ms: list[float] = []
    with _loading(running, png, work, clients=CROWD, seconds=seconds) as load:
        time.sleep(WARM_UP_S)
        while load.poll() is None:
            took_ms.append(1e3 * _get(running.health_url))
            time.sleep(PROBE_EACH_S)
        load.communicate()
    return tuple(took_ms)


@dataclass(frozen=True)
class Fresh:
    """One request alone, and one after 40 whose clients went away.

    Attributes:
        idle_ms: median of some, the server idle.
        after_ms: median of some.
    """

    idle_ms: float
    after_ms: float


def fresh(running: Running, png: bytes) -> Fresh:
    """Send a request after 40 that were sent and abandoned."""
    idle_ms = [_ask_ms(running, png) for _ in range(PROBES)]
    after_ms = []
    for _ in range(PROBES):
        _abandon(running, png)
        after_ms.append(_ask_ms(running, png))
        _wait_until_quick(running, png, 2 * statistics.median(idle_ms))
    return Fresh(statistics.median(idle_ms), statistics.median(after_ms))


def _loading(
    running: Running, png: bytes, work: Path, *, clients: int, seconds: float
) -> "subprocess.Popen[bytes]":
    request = running.server.request(png)
    body = work / "body"
    body.write_bytes(request.body)
    command = [sys.executable, "-m", "benchmarks.load", "--url", running.url, "--body", str(body)]
    for header in request.headers:
        command += ["--header", header]
    command += ["--concurrency", str(clients), "--seconds", str(seconds)]
    return subprocess.Popen([*command, "--warm-up", str(WARM_UP_S)], stdout=subprocess.PIPE)


def _get(url: str) -> float:
    """Return the seconds that one GET took over a connection of its own, as a probe's does."""
    parts = urlsplit(url)
    began_s = time.perf_counter()
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise BenchFailed(f"{url} answered {answer.status}")
    return time.perf_counter() - began_s


def _ask_ms(running: Running, png: bytes) -> float:
    began_s = time.perf_counter()
    running.ask(png)
    return 1e3 * (time.perf_counter() - began_s)


def _abandon(running: Running, png: bytes) -> None:
    """Send 40 requests and hang up before their answers."""
    request = running.server.request(png)
    wire = request_bytes(running.url, request.headers, request.body)
    parts = urlsplit(running.url)
    connections = [socket.create_connection((parts.hostname, parts.port)) for _ in range(ABANDONED)]
    for connection in connections:
        connection.sendall(wire)
    time.sleep(PROBE_EACH_S)
    for connection in connections:
        connection.close()


def _wait_until_quick(running: Running, png: bytes, ms: float) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while _ask_ms(running, png) > ms and time.monotonic() < until_s:
        time.sleep(PROBE_EACH_S)
