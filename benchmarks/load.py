"""The load: threads that post one image over kept-alive connections, in a process of their own.

It measures nothing but time and status, so that it takes little from the cores of the service.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

EXAMPLES = """examples:
  python -m benchmarks.load --url http://127.0.0.1:8000/v1/models/nuclei/segment \\
      --image image.png --concurrency 8 --seconds 10
"""
OK = 200
TIMEOUT_S = 120.0


class Poster(threading.Thread):
    """One client: posts, waits for the answer, posts again, until the window closes.

    Attributes:
        sent_s: when each request was sent, ``time.perf_counter()``.
        ended_s: when its answer was there.
        failures: statuses other than 200.
    """

    def __init__(self, url: str, body: bytes, until_s: float) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._path = f"{parts.path}?format=png"
        self._body = body
        self._until_s = until_s
        self.sent_s: list[float] = []
        self.ended_s: list[float] = []
        self.failures: list[int] = []

    def run(self) -> None:
        """Post until the window closes."""
        connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
        headers = {"Content-Type": "image/png"}
        while (began_s := time.perf_counter()) < self._until_s:
            connection.request("POST", self._path, self._body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != OK:
                self.failures.append(answer.status)
            self.sent_s.append(began_s)
            self.ended_s.append(time.perf_counter())
        connection.close()


def post_for(
    url: str, body: bytes, *, concurrency: int, seconds: float, warm_up_s: float
) -> dict[str, object]:
    """Post from ``concurrency`` threads and count the answers that fall into the window.

    The window opens after ``warm_up_s`` and closes ``seconds`` later; requests under way at its
    end go on, so that the load is whole until then.
    """
    opens_s = time.perf_counter() + warm_up_s
    closes_s = opens_s + seconds
    posters = [Poster(url, body, closes_s) for _ in range(concurrency)]
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
    parser.add_argument("--url", required=True, help="address of a model's segment")
    parser.add_argument("--image", type=Path, required=True, help="PNG to send")
    parser.add_argument("--concurrency", type=int, default=1, help="clients (1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the window (10)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before it (1)")
    asked = parser.parse_args(arguments)
    counted = post_for(
        asked.url,
        asked.image.read_bytes(),
        concurrency=asked.concurrency,
        seconds=asked.seconds,
        warm_up_s=asked.warm_up,
    )
    print(json.dumps(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
