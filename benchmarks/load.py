"""The load: threads that post one body over kept-alive connections, in a process of their own.

It measures nothing but time and status, and speaks HTTP/1.1 over a plain socket, so that it takes
little from the cores of the service: ``http.client`` cost it 0.3 ms of CPU more per answer.
"""

import argparse
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

EXAMPLES = """examples:
  python -m benchmarks.load --url 'http://127.0.0.1:8000/v1/models/nuclei/segment?format=png' \\
      --body image.png --header 'Content-Type: image/png' --concurrency 8 --seconds 10
"""
OK = 200
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 120.0


class Poster(threading.Thread):
    """One client: posts, waits for the answer, posts again, until the window closes.

    Attributes:
        sent_s: when each request was sent, ``time.perf_counter()``.
        ended_s: when its answer was there.
        failures: statuses other than 200.
    """

    def __init__(self, url: str, headers: Sequence[str], body: bytes, until_s: float) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._request = request_bytes(url, headers, body)
        self._until_s = until_s
        self.sent_s: list[float] = []
        self.ended_s: list[float] = []
        self.failures: list[int] = []

    def run(self) -> None:
        """Post until the window closes."""
        with socket.create_connection(self._address, timeout=TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (began_s := time.perf_counter()) < self._until_s:
                connection.sendall(self._request)
                status = _read_answer(connection)
                if status != OK:
                    self.failures.append(status)
                self.sent_s.append(began_s)
                self.ended_s.append(time.perf_counter())


def request_bytes(url: str, headers: Sequence[str], body: bytes) -> bytes:
    """Return the request as it goes over the wire; ``headers`` are ``Name: value``."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _read_answer(connection: socket.socket) -> int:
    """Read one answer to its end and return its status; all servers give a Content-Length."""
    answer = b""
    while (head_end := answer.find(b"\r\n\r\n")) < 0:
        answer += _receive(connection)
    length = re.search(rb"\r\ncontent-length: *(\d+)", answer[:head_end], re.IGNORECASE)
    if length is None:
        raise ConnectionError(f"an answer without Content-Length: {answer[:head_end]!r}")
    missing_bytes = head_end + 4 + int(length[1]) - len(answer)
    while missing_bytes > 0:
        missing_bytes -= len(_receive(connection))
    return int(answer.split(b" ", 2)[1])


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVE_BYTES)
    if not received:
        raise ConnectionError("the service closed the connection before its answer's end")
    return received


def post_for(
    url: str,
    headers: Sequence[str],
    body: bytes,
    *,
    concurrency: int,
    seconds: float,
    warm_up_s: float,
) -> dict[str, object]:
    """Post from ``concurrency`` threads and count the answers that fall into the window.

    The window opens after ``warm_up_s`` and closes ``seconds`` later; requests under way at its
    end go on, so that the load is whole until then.
    """
    opens_s = time.perf_counter() + warm_up_s
    closes_s = opens_s + seconds
    posters = [Poster(url, headers, body, closes_s) for _ in range(concurrency)]
    for poster in posters:
        poster.start()
    for poster in posters:
        poster.join()
    pairs = [pair for p in posters for pair in zip(p.sent_s, p.ended_s, strict=True)]
    answers = [ended - sent for sent, ended in pairs if opens_s < ended <= closes_s]
    return {
        "answers_per_s": len(answers) / seconds,
        "latencies_ms": [round(1e3 * answer, 3) for answer in answers],
        "failures": [status for p in posters for status in p.failures],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Post, and print what came out as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", required=True, help="address to post to")
    parser.add_argument("--body", type=Path, required=True, help="file to send as it is")
    parser.add_argument("--header", action="append", default=[], help="Name: value; repeatable")
    parser.add_argument("--concurrency", type=int, default=1, help="clients (1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the window (10)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before it (1)")
    asked = parser.parse_args(arguments)
    counted = post_for(
        asked.url,
        asked.header,
        asked.body.read_bytes(),
        concurrency=asked.concurrency,
        seconds=asked.seconds,
        warm_up_s=asked.warm_up,
    )
    print(json.dumps(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
